"""Keeps an answer within a grammar: before each token all others than those that may follow are masked out."""

from typing import Any

import llguidance.numpy

from hugging_llama.engine.chat_format import ThinkingTags
from hugging_llama.engine.detokenizer import Detokenizer
from hugging_llama.engine.grammars.bits import Bits, allow, forbid, only
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

    def fill(self, bits: Bits) -> None:
        """Leaves set in a row of bits `[words]` what may follow. Raises GenerationError if that can't be told."""
        if self._watch is None:
            self._allowed(bits)
        elif self._watch.at_start:
            self._allowed(bits)
            allow(bits, self._watch.opening[:1])
        elif self._watch.opening:
            only(bits, self._watch.opening[:1])
        else:
            # Thinking that ends the turn would leave no answer at all.
            bits[:] = -1
            forbid(bits, self._eos_token_ids)

    def forced(self) -> list[int]:
        """The next tokens, as far as the grammar leaves one text alone."""
        if self._watch is not None or self._matcher.is_stopped():
            return []
        tokens: list[int] = self._matcher.compute_ff_tokens()
        return tokens

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

    def _allowed(self, bits: Bits) -> None:
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
        if self._matcher.is_error():
            raise GenerationError("the grammar became too complex for this answer")
        # the model may have fewer logits than the tokenizer has tokens
        bits[:] = self._bits[0, : len(bits)]

    def _consume(self, token_id: int) -> None:
        if not self._matcher.is_stopped() and not self._matcher.consume_token(token_id):
            raise GenerationError("the answer left its grammar")
