"""Keeps an answer within a grammar: before each token all others than those that may follow are masked out."""

import re
from collections.abc import Collection

import llguidance.numpy
import numpy as np

from hugging_llama.engine.grammars.bits import Bits, allow, allows, only
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.grammars.look_ahead import ForbiddenAfter, LookAhead
from hugging_llama.engine.grammars.thinking import ThinkingGate
from hugging_llama.errors import GenerationError, GrammarError, HuggingLlamaError

_WRONG_TOKEN = "doesn't satisfy the grammar"
_NAMED_TOKEN = re.compile(r"<\[(\d{1,9})\]>")
"""A token that a grammar names by its id."""


class GrammarMask:
    """The TokenMask of one sequence: what `gate` lets through, then what `grammar` allows; either may be None.

    `end_ids` end an answer wherever the tokenizer's own end does. Raises GrammarError if the grammar can't be compiled.
    """

    def __init__(
        self,
        compiler: GrammarCompiler,
        grammar: str | None,
        gate: ThinkingGate | None = None,
        *,
        end_ids: Collection[int] = (),
    ) -> None:
        self._matcher = compiler.matcher(grammar) if grammar is not None else None
        self._vocabulary = compiler.vocabulary
        self._eos_token_id = compiler.eos_token_ids[0]
        self._end_ids = sorted(set(end_ids) - set(compiler.eos_token_ids))
        named = {int(token_id) for token_id in _NAMED_TOKEN.findall(grammar or "")}
        self._unnamed_ids = set(compiler.special_ids.values()) - named
        self._size = compiler.size
        self._bits = llguidance.numpy.allocate_token_bitmask(1, self._size)
        self._gate = gate

    @property
    def finished(self) -> bool:
        """Whether nothing can follow any more."""
        return bool(self._gate is None and self._matcher is not None and self._matcher.is_stopped())

    def fill(self, bits: Bits) -> bool:
        """Leaves set in a row of bits `[words]` what may follow; False if that is everything.

        Raises GrammarError if that takes too much to tell.
        """
        if self._gate is None:
            return self._allowed(bits)
        if self._gate.may_answer and not self._allowed(bits):
            return False
        return self._gate.fill(bits)

    def forced(self) -> list[int]:
        """The next tokens, as far as they leave one text alone."""
        if self._gate is not None:
            return self._gate.forced()
        if self._matcher is None or self._matcher.is_stopped():
            return []
        tokens: list[int] = self._matcher.compute_ff_tokens()
        return tokens

    def leads_on(self, token_id: int, forbidden_after: ForbiddenAfter) -> bool:
        """Whether there is a way behind this token that doesn't soon come to what is forbidden."""
        if self._matcher is None or self._matcher.is_stopped() or (self._gate and not self._gate.may_answer):
            return True
        return LookAhead(self._matcher.deep_copy(), self._size, forbidden_after).leads_on(token_id)

    def accept(self, token_id: int) -> None:
        """The token that was chosen. Raises GenerationError for one that may not follow, GrammarError if
        that takes too much to tell."""
        if self._gate is None:
            self._consume(token_id)
            return
        answer = self._gate.accept(token_id)
        if not self._gate.is_open:
            self._gate = None
        if answer is None:
            self._consume(token_id)
        elif answer and self._matcher is not None:
            self._matcher.consume_tokens(self._vocabulary.tokenize_str(answer))

    def _allowed(self, bits: Bits) -> bool:
        if self._matcher is None:
            return False
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
        if self._matcher.is_error():
            raise self._error()
        # the model may have fewer logits than the tokenizer has tokens
        bits[:] = self._bits[0, : len(bits)]
        if self._end_ids and self._matcher.is_accepting() and allows(bits, self._eos_token_id):
            allow(bits, [token_id for token_id in self._end_ids if token_id < 32 * len(bits)])
        self._spell_out(bits)
        return True

    def _spell_out(self, bits: Bits) -> None:
        """Where a text is forced that looks like a control token, llguidance allows that token and nothing else,
        though it would end or garble the answer: the text's first piece takes its place."""
        assert self._matcher is not None
        (words,) = np.nonzero(bits)
        if len(words) != 1 or self._matcher.is_accepting():
            return
        word = int(bits[words[0]]) & 0xFFFFFFFF
        token_id = 32 * int(words[0]) + word.bit_length() - 1
        if word.bit_count() == 1 and token_id in self._unnamed_ids:
            text = self._matcher.compute_ff_bytes().decode("utf-8", "ignore")
            only(bits, self._vocabulary.greedy_tokenize(text)[:1])

    def _consume(self, token_id: int) -> None:
        if self._matcher is None or self._matcher.is_stopped():
            return
        if not self._matcher.consume_token(token_id):
            raise self._error()

    def _error(self) -> HuggingLlamaError:
        assert self._matcher is not None
        if _WRONG_TOKEN in self._matcher.get_error():
            return GenerationError("the answer left its grammar")
        return GrammarError("the output format became too complex for this answer: make it simpler")
