"""Grammars compiled over one tokenizer, kept for the requests that come with the same one again."""

import threading
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import llguidance
import llguidance.hf

from hugging_llama.errors import GrammarError

_MAX_COMPILED = 128
_MAX_ITEMS_IN_ROW = 20_000
"""An object with 500 optional properties needs more than the 2,000 that llguidance allows by itself."""


class GrammarCompiler:
    """Compiles for one model. Thread-safe; slow for a large vocabulary at the first grammar (a second or two) and a few
    milliseconds for each new one, so it is called in a request's own thread, never in the step's.

    `size` is the number of logits, or of tokens if these are more. Raises GrammarError for a tokenizer that can't be
    constrained (none but byte-level and SentencePiece ones of the tokenizers library can).

    `special_ids`: tokens that no text of a grammar stands for, by their own texts.
    """

    def __init__(self, tokenizer: Any, *, width: int, eos_token_ids: Collection[int]) -> None:
        self.tokenizer = tokenizer
        self.eos_token_ids = sorted(set(eos_token_ids))
        self.size = max(width, len(tokenizer))
        if not getattr(tokenizer, "is_fast", False) or not self.eos_token_ids:
            raise GrammarError("this model's tokenizer does not allow to enforce an output format")
        try:
            self.vocabulary = llguidance.hf.from_tokenizer(tokenizer, n_vocab=self.size, eos_token=self.eos_token_ids)
        except Exception as error:
            raise GrammarError("this model's tokenizer does not allow to enforce an output format") from error
        added: dict[str, int] = tokenizer.get_added_vocab()
        self.special_ids = {text: i for text, i in added.items() if self.vocabulary.is_special_token(i)}
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()
        # one at a time: hostile grammars of several clients must leave the other threads their cores
        self._turn = threading.Lock()

    def matcher(self, grammar: str) -> Any:
        """A new LLMatcher at the beginning of `grammar`. Raises GrammarError, in llguidance's words."""
        found = self._kept(grammar)
        if found is None:
            with self._turn:
                found = self._kept(grammar) or self._compile(grammar)
        return found.deep_copy()

    def _kept(self, grammar: str) -> Any:
        with self._lock:
            if (found := self._compiled.get(grammar)) is not None:
                self._compiled.move_to_end(grammar)
            return found

    def _compile(self, grammar: str) -> Any:
        limits = llguidance.LLParserLimits(max_items_in_row=_MAX_ITEMS_IN_ROW)
        matcher = llguidance.LLMatcher(self.vocabulary, grammar, log_level=0, limits=limits)
        # some limits are met at the first mask only
        matcher.deep_copy().compute_bitmask() if not matcher.is_error() else None
        if matcher.is_error():
            raise GrammarError(f"this output format can't be enforced: {_sentence(matcher.get_error())}")
        with self._lock:
            self._compiled[grammar] = matcher
            while len(self._compiled) > _MAX_COMPILED:
                self._compiled.popitem(last=False)
        return matcher


def _sentence(text: str) -> str:
    """The first lines of an error, without the machinery's own words."""
    return " ".join(text.split())[:300]
