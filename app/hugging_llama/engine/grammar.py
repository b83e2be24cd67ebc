"""Makes an answer one JSON object: before each token all others than those that may follow are masked out."""

from collections.abc import Collection
from typing import Any

import llguidance
import llguidance.hf
import llguidance.numpy
import numpy as np
import torch

from hugging_llama.engine.chat_format import ThinkingTags
from hugging_llama.engine.detokenizer import Detokenizer
from hugging_llama.errors import GenerationError, GrammarError
from hugging_llama.parsing.thinking import ThinkingParser

_WHITE_SPACE = r"[ \n]{0,2}"
"""Between two JSON tokens. Endless blanks would be JSON too, and small models do fall into writing them."""


class JsonGrammar:
    """The grammar of one JSON object over one tokenizer; made once for a model, about a second for a large one.

    `width` is the number of logits, which may be larger than the vocabulary. Raises GrammarError for a tokenizer
    that can't be constrained (none but byte-level and SentencePiece ones of the tokenizers library can).
    """

    def __init__(self, tokenizer: Any, *, width: int, eos_token_ids: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._eos_token_ids = sorted(set(eos_token_ids))
        self._size = max(width, len(tokenizer))
        if not getattr(tokenizer, "is_fast", False) or not self._eos_token_ids:
            raise GrammarError("this model's tokenizer does not allow to enforce an output format")
        try:
            self._vocabulary = llguidance.hf.from_tokenizer(
                tokenizer, n_vocab=self._size, eos_token=self._eos_token_ids
            )
        except Exception as error:
            raise GrammarError("this model's tokenizer does not allow to enforce an output format") from error
        self._grammar = llguidance.LLMatcher.grammar_from_json_schema(
            {"type": "object"}, overrides={"whitespace_pattern": _WHITE_SPACE}
        )

    def new_mask(self, *, thinking: ThinkingTags | None = None, inside_thinking: bool = False) -> "JsonMask":
        """A mask for one sequence. With `thinking` the reasoning before the answer is free."""
        matcher = llguidance.LLMatcher(self._vocabulary, self._grammar, log_level=0)
        if matcher.is_error():
            raise GrammarError("JSON output can't be enforced for this model")
        watch = None
        if thinking:
            watch = _ThinkingWatch(self._tokenizer, thinking, inside=inside_thinking)
        return JsonMask(matcher, self._vocabulary, self._size, self._eos_token_ids, watch)


class _ThinkingWatch:
    """Tells when the answer begins, and keeps a choice open at the very beginning: to think, or to answer."""

    def __init__(self, tokenizer: Any, tags: ThinkingTags, *, inside: bool) -> None:
        self._parser = ThinkingParser(open_tag=tags.open, close_tag=tags.close, inside=inside)
        self._detokenizer = Detokenizer(tokenizer)
        self.opening: list[int] = [] if inside else tokenizer.encode(tags.open, add_special_tokens=False)
        self.at_start = not inside

    def accept(self, token_id: int) -> tuple[bool, str]:
        """Whether the answer has begun, and what of it this token holds already."""
        self.at_start = False
        self.opening = self.opening[1:]
        _, answer = self._parser.push(self._detokenizer.push(token_id))
        return self._parser.answering, answer


class JsonMask:
    """The TokenMask of one sequence."""

    def __init__(
        self,
        matcher: Any,
        vocabulary: Any,
        size: int,
        eos_token_ids: list[int],
        watch: _ThinkingWatch | None,
    ) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._size = size
        self._eos_token_ids = eos_token_ids
        self._watch = watch
        self._bits = llguidance.numpy.allocate_token_bitmask(1, size)

    @property
    def finished(self) -> bool:
        """Whether the object is complete."""
        return bool(self._watch is None and self._matcher.is_stopped())

    def apply(self, logits_row: torch.Tensor) -> None:
        """Sets what may not follow to minus infinity, in place; `logits_row` has shape [width]."""
        if self._watch is None:
            self._keep(logits_row, self._allowed())
        elif self._watch.at_start:
            allowed = self._allowed()
            allowed[self._watch.opening[:1]] = True
            self._keep(logits_row, allowed)
        elif self._watch.opening:
            allowed = np.zeros(self._size, dtype=np.uint8)
            allowed[self._watch.opening[0]] = True
            self._keep(logits_row, allowed)
        else:
            # Thinking that ends the turn would leave no object at all.
            logits_row[[i for i in self._eos_token_ids if i < logits_row.shape[0]]] = float("-inf")

    def accept(self, token_id: int) -> None:
        """The token that was chosen. Raises GenerationError for one that may not follow."""
        if self._watch is None:
            self._consume(token_id)
        elif self._watch.at_start and token_id not in self._watch.opening[:1]:
            self._watch = None
            self._consume(token_id)
        else:
            answering, answer = self._watch.accept(token_id)
            if answering:
                self._watch = None
                if answer:
                    self._matcher.consume_tokens(self._vocabulary.tokenize_str(answer))

    def _allowed(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Shape [size], 1 for each id that may follow."""
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
        if self._matcher.is_error():
            raise GenerationError("the JSON grammar gave up on this answer")
        return np.unpackbits(self._bits[0].view(np.uint8), bitorder="little", count=self._size)

    def _keep(self, logits_row: torch.Tensor, allowed: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        banned = torch.from_numpy(allowed[: logits_row.shape[0]]).view(torch.bool).logical_not()
        logits_row.masked_fill_(banned.to(logits_row.device), float("-inf"))

    def _consume(self, token_id: int) -> None:
        if not self._matcher.is_stopped() and not self._matcher.consume_token(token_id):
            raise GenerationError("the answer left the JSON grammar")
