"""Keeps an answer within a grammar: before each token all others than those that may follow are masked out."""

from typing import Any

import llguidance.numpy
import numpy as np
import torch

from hugging_llama.engine.chat_format import ThinkingTags
from hugging_llama.engine.detokenizer import Detokenizer
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.errors import GenerationError
from hugging_llama.parsing.thinking import ThinkingParser


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


class GrammarMask:
    """The TokenMask of one sequence. With `thinking` the reasoning before the answer is free.

    Raises GrammarError if the grammar can't be compiled.
    """

    def __init__(
        self,
        compiler: GrammarCompiler,
        grammar: str,
        *,
        thinking: ThinkingTags | None = None,
        inside_thinking: bool = False,
    ) -> None:
        self._matcher = compiler.matcher(grammar)
        self._vocabulary = compiler.vocabulary
        self._size = compiler.size
        self._eos_token_ids = compiler.eos_token_ids
        self._watch = _ThinkingWatch(compiler.tokenizer, thinking, inside=inside_thinking) if thinking else None
        self._bits = llguidance.numpy.allocate_token_bitmask(1, self._size)

    @property
    def finished(self) -> bool:
        """Whether nothing can follow any more."""
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
            # Thinking that ends the turn would leave no answer at all.
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
            raise GenerationError("the grammar became too complex for this answer")
        return np.unpackbits(self._bits[0].view(np.uint8), bitorder="little", count=self._size)

    def _keep(self, logits_row: torch.Tensor, allowed: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        banned = torch.from_numpy(allowed[: logits_row.shape[0]]).view(torch.bool).logical_not()
        logits_row.masked_fill_(banned.to(logits_row.device), float("-inf"))

    def _consume(self, token_id: int) -> None:
        if not self._matcher.is_stopped() and not self._matcher.consume_token(token_id):
            raise GenerationError("the answer left its grammar")
