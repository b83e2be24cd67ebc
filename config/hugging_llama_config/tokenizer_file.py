"""A model's tokenizer.json, as much of it as is looked at before a library reads it. It comes from strangers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hugging_llama_config.tokenizer_expressions import expression_problem
from hugging_llama_config.tokenizer_limits import PARTS, tokenizer_problem
from hugging_llama_config.vocabulary_limits import token_texts, vocabulary_problem


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

    def problem(self, others: Iterable[str] = ()) -> str:
        """Why it must not be used, as the end of a sentence about the file; "" if it may be. `others` are tokens that
        other files add."""
        parts = {part: getattr(self, part) for part in PARTS}
        return (
            tokenizer_problem(parts)
            or vocabulary_problem(self.model and self.model.vocab, self.added_tokens)
            or expression_problem(parts, [*self._normalized(), *others])
        )

    def _normalized(self) -> list[str]:
        tokens = self.added_tokens if isinstance(self.added_tokens, list) else []
        return token_texts([t for t in tokens if not (isinstance(t, dict) and t.get("normalized") is False)])
