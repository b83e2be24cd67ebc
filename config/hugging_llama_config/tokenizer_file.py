"""A model's tokenizer.json, as much of it as is looked at before a library reads it. It comes from strangers."""

from dataclasses import dataclass
from typing import Any

from hugging_llama_config.tokenizer_limits import PARTS, tokenizer_problem
from hugging_llama_config.vocabulary_limits import vocabulary_problem


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Ids by token, or the list of tokens."""

    vocab: Any = None


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """The tokens that there are, and what may lengthen a text. Its own readers say what is wrong with its JSON."""

    model: Vocabulary | None = None
    added_tokens: Any = None
    normalizer: Any = None
    pre_tokenizer: Any = None
    post_processor: Any = None
    decoder: Any = None

    def problem(self) -> str:
        """Why it must not be used, as the end of a sentence about the file; "" if it may be."""
        parts = {part: getattr(self, part) for part in PARTS}
        return tokenizer_problem(parts) or vocabulary_problem(self.model and self.model.vocab, self.added_tokens)
