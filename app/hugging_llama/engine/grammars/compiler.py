"""Grammars compiled over one tokenizer, kept for the requests that come with the same one again."""

import threading
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

from hugging_llama.engine.grammars.faults import explained
from hugging_llama.engine.grammars.limits import MOST_CACHED_BYTES, compiled, parser_limits
from hugging_llama.engine.grammars.trial_process import TrialProcess
from hugging_llama.engine.grammars.vocabulary import grammar_vocabulary
from hugging_llama.engine.memory import raise_if_out_of_memory
from hugging_llama.engine.panics import panics_as_errors
from hugging_llama.errors import GrammarError

_MAX_COMPILED = 128
_REFUSAL = "this model's tokenizer does not allow to enforce an output format"


class GrammarCompiler:
    """Compiles for one model. Thread-safe. Made by a load, since it takes half a second for a large vocabulary, in
    which no other thread gets its turn; a new grammar takes a few milliseconds, in a request's own thread.

    `size` is the number of logits, or of tokens if these are more. Raises GrammarError for a tokenizer that can't be
    constrained (none but byte-level and SentencePiece ones of the tokenizers library can).

    `special_ids`: tokens that no text of a grammar stands for, by their own texts.
    """

    def __init__(self, tokenizer: Any, *, width: int, eos_token_ids: Collection[int]) -> None:
        self.tokenizer = tokenizer
        self.eos_token_ids = sorted(set(eos_token_ids))
        self.size = max(width, len(tokenizer))
        if not getattr(tokenizer, "is_fast", False) or not self.eos_token_ids:
            raise GrammarError(_REFUSAL)
        try:
            with panics_as_errors():
                self.vocabulary = grammar_vocabulary(tokenizer, self.size, self.eos_token_ids)
        except Exception as error:
            raise_if_out_of_memory(error)
            raise GrammarError(_REFUSAL) from error
        added: dict[str, int] = tokenizer.get_added_vocab()
        self.special_ids = {text: i for text, i in added.items() if self.vocabulary.is_special_token(i)}
        self._compiled: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        # one at a time: hostile grammars of several clients must leave the other threads their cores
        self._turn = threading.Lock()
        self._trial = TrialProcess(self.size, self.special_ids)

    def matcher(self, grammar: str) -> Any:
        """A new LLMatcher at the beginning of `grammar`. Raises GrammarError, mostly in llguidance's words."""
        found = self._kept(grammar)
        if found is None:
            with self._turn:
                found = self._kept(grammar) or self._compile(grammar)
        return found.deep_copy()

    def close(self) -> None:
        """Ends what is being tried out."""
        self._trial.close()

    def _kept(self, grammar: str) -> Any:
        with self._lock:
            if grammar not in self._compiled:
                return None
            self._compiled.move_to_end(grammar)
            return self._compiled[grammar][0]

    def _compile(self, grammar: str) -> Any:
        num_bytes = self._trial.run(grammar)
        matcher, fault = compiled(self.vocabulary, grammar, parser_limits())
        if fault:
            raise GrammarError(explained(fault, grammar))
        with self._lock:
            self._compiled[grammar] = matcher, num_bytes + len(grammar)
            while len(self._compiled) > _MAX_COMPILED or self._cached_bytes() > MOST_CACHED_BYTES:
                self._compiled.popitem(last=False)
        return matcher

    def _cached_bytes(self) -> int:
        return sum(num_bytes for _, num_bytes in self._compiled.values())
