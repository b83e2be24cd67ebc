"""The reasoning before an answer: free, but it must lead to an answer, and may be bounded."""

from collections.abc import Sequence
from typing import Any

from hugging_llama.engine.detokenizer import Detokenizer
from hugging_llama.engine.grammars.bits import Bits, allow, forbid, only
from hugging_llama.parsing.thinking import ThinkingParser
from hugging_llama.parsing.thinking_layout import ThinkingLayout
from hugging_llama.parsing.thinking_tags import ThinkingTags

_SENTENCE_ENDS = (".", "!", "?", "\n", "。")
_GRACE = 8
"""In the last tokens of a budget, so many or this part of it if that is more, the reasoning ends with its sentence; at
the end of the budget where it stands."""
_LONGEST_LAYOUT = 8
_ANCHOR = "a"
_NO_BREAKS = ThinkingLayout()


class ThinkingGate:
    """Follows one sequence until its answer begins.

    `inside`: the prompt has opened the reasoning; else the first token chooses whether there is any. `budget` is in
    tokens, None for as many as it takes. Reasoning that is ended for the model gets the line breaks of `layout` around
    the closing tag: models that miss them go on with it behind the tag.
    """

    def __init__(
        self,
        tokenizer: Any,
        tags: ThinkingTags,
        eos_token_ids: Sequence[int],
        *,
        inside: bool,
        budget: int | None,
        layout: ThinkingLayout = _NO_BREAKS,
    ) -> None:
        self._tokenizer = tokenizer
        self._parser = ThinkingParser(open_tag=tags.open, close_tag=tags.close, inside=inside)
        self._detokenizer = Detokenizer(tokenizer)
        self._eos_token_ids = list(eos_token_ids)
        self._opening: list[int] = [] if inside else tokenizer.encode(tags.open, add_special_tokens=False)
        self._close_tag = tags.close
        self._layout = layout
        self._forced: list[int] = []
        # a prompt that opens the reasoning ends the line behind the tag
        self._tail = "\n" if inside else ""
        self._has_thought = False
        self._budget = budget
        self._num_tokens = 0
        self._at_start = not inside
        self.is_open = True
        """False once the answer has begun."""
        self.was_cut = False
        """Whether the budget has ended the reasoning."""

    @property
    def may_answer(self) -> bool:
        """Whether the next token may belong to the answer: nothing has been said yet."""
        return self._at_start

    def fill(self, bits: Bits) -> bool:
        """Leaves set what may follow within the reasoning; False if that is everything. At the very beginning it adds
        the opening tag to what the answer allows."""
        if self._at_start:
            allow(bits, self._opening[:1])
        elif expected := self._opening or self._forced:
            only(bits, expected[:1])
        else:
            # reasoning that ends the turn would leave no answer at all
            forbid(bits, self._eos_token_ids)
        return True

    def forced(self) -> list[int]:
        """The tokens that must come next."""
        return [] if self._at_start else [*self._opening, *self._forced]

    def accept(self, token_id: int) -> str | None:
        """What of the answer the token holds already; None if it is none of the gate's: the answer begins with it."""
        if self._at_start and token_id not in self._opening[:1]:
            self.is_open = False
            return None
        self._at_start = False
        self._num_tokens += not self._opening
        self._opening, self._forced = self._opening[1:], self._forced[1:]
        text = self._detokenizer.push(token_id)
        thought, answer = self._parser.push(text)
        self._has_thought = self._has_thought or bool(thought)
        self._tail = (self._tail + text)[-_LONGEST_LAYOUT:]
        if not self._parser.answering and not self._opening:
            self._close_in_time(text)
        self.is_open = bool(self._forced) or not self._parser.answering
        return answer

    def _close_in_time(self, text: str) -> None:
        if self._budget is None or self._forced:
            return
        left = self._budget - self._num_tokens
        ends_sentence = self._has_thought and text.rstrip(" ").endswith(_SENTENCE_ENDS)
        if left <= 0 or (left <= max(self._budget // _GRACE, _GRACE) and ends_sentence):
            self._forced, self.was_cut = self._closing(), True

    def _closing(self) -> list[int]:
        """The tokens of the closing tag with its line breaks, less those that are there."""
        before = self._layout.before if self._has_thought else self._layout.empty
        num_breaks = len(self._tail) - len(self._tail.rstrip("\n"))
        return _continued(self._tokenizer, before[num_breaks:] + self._close_tag + self._layout.after)


def _continued(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text` inside of another one, where no tokenizer puts a space in front."""
    anchor = tokenizer.encode(_ANCHOR, add_special_tokens=False)
    ids: list[int] = tokenizer.encode(_ANCHOR + text, add_special_tokens=False)
    if ids[: len(anchor)] == anchor:
        return ids[len(anchor) :]
    return list(tokenizer.encode(text, add_special_tokens=False))
