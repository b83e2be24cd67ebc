"""Tells the reasoning between two tags from the answer after it."""

from enum import Enum, auto

from hugging_llama.parsing.partial import held_length, trailing_space


class _State(Enum):
    START = auto()  # nothing but white space so far: an opening tag may come
    THINKING_START = auto()  # white space next to the opening tag is dropped
    THINKING = auto()
    ANSWER_START = auto()  # white space next to the closing tag is dropped
    ANSWER = auto()


class ThinkingParser:
    """Fed piece by piece; gives pairs of more thinking and more answer.

    Only a tag at the very beginning opens the thinking; without one everything is answer, leading white space
    included. `inside` says that the prompt has opened it already; an opening tag that the model then repeats is
    dropped. Thinking that is never closed stays thinking.

    Tags around the answer, where a family has such, are dropped with the white space inside of them; without an
    opening one the closing one may come behind any thinking.
    """

    def __init__(
        self,
        *,
        open_tag: str = "<think>",
        close_tag: str = "</think>",
        answer_open: str = "",
        answer_close: str = "",
        inside: bool = False,
    ) -> None:
        self._open_tag = open_tag
        self._close_tag = close_tag
        self._answer_open = answer_open
        self._answer_close = answer_close
        self._is_wrapped = False
        self._held = ""
        self._state = _State.THINKING_START if inside else _State.START
        self._tag_possible = True

    @property
    def is_inside(self) -> bool:
        """Whether the reasoning has begun and not ended."""
        return self._state in (_State.THINKING_START, _State.THINKING)

    @property
    def is_aside(self) -> bool:
        """Whether what came last is known to be no part of the answer: reasoning, or what stands around the answer."""
        return self.is_inside or (self._state is _State.ANSWER_START and not self._held)

    @property
    def answering(self) -> bool:
        """Whether the answer has begun: the closing tag has come, or there was no opening tag."""
        return self._state in (_State.ANSWER_START, _State.ANSWER)

    def push(self, text: str) -> tuple[str, str]:
        """More thinking and more answer, each possibly empty."""
        self._held += text
        thinking = answer = ""
        moved = True
        while moved:
            moved = False
            if self._state is _State.START:
                moved = self._open()
            elif self._state is _State.THINKING_START:
                moved = self._skip_to_thinking()
            elif self._state is _State.THINKING:
                more, moved = self._think()
                thinking += more
            elif self._state is _State.ANSWER_START:
                moved = self._skip_to_answer()
            else:
                more, moved = self._answer()
                answer += more
        return thinking, answer

    def finish(self) -> tuple[str, str]:
        """What was held back for a tag that did not come."""
        held, self._held = self._held, ""
        if self._state is _State.START:
            return "", held
        if self._state in (_State.THINKING_START, _State.THINKING):
            return held.rstrip(), ""
        return "", held

    def _open(self) -> bool:
        """Decides whether the text opens with the tag; False while that can't be told."""
        text = self._held.lstrip()
        if text.startswith(self._open_tag):
            self._held = text[len(self._open_tag) :]
            self._state = _State.THINKING_START
            self._tag_possible = False
            return True
        if self._answer_open and text.startswith(self._answer_open):
            self._state = _State.ANSWER_START
            return True
        if self._open_tag.startswith(text) or self._answer_open.startswith(text):
            return False
        self._state = _State.ANSWER
        return True

    def _skip_to_thinking(self) -> bool:
        text = self._held.lstrip()
        self._held = text
        if self._tag_possible and text.startswith(self._open_tag):
            self._held = text[len(self._open_tag) :]
            self._tag_possible = False
            return True
        if not text or (self._tag_possible and self._open_tag.startswith(text)):
            return False
        self._state = _State.THINKING
        return True

    def _think(self) -> tuple[str, bool]:
        """More thinking, and whether the closing tag has come. White space is held: a tag after it drops it."""
        at = self._held.find(self._close_tag)
        if at >= 0:
            thinking = self._held[:at].rstrip()
            self._held = self._held[at + len(self._close_tag) :]
            self._state = _State.ANSWER_START
            self._is_wrapped = not self._answer_open and bool(self._answer_close)
            return thinking, True
        keep = len(self._held) - held_length(self._held, (self._close_tag,))
        keep -= trailing_space(self._held[:keep])
        thinking, self._held = self._held[:keep], self._held[keep:]
        return thinking, False

    def _skip_to_answer(self) -> bool:
        self._held = self._held.lstrip()
        if self._answer_open and self._held.startswith(self._answer_open):
            self._held = self._held[len(self._answer_open) :]
            self._answer_open, self._is_wrapped = "", True
            return True
        if not self._held or self._answer_open.startswith(self._held):
            return False
        self._state = _State.ANSWER
        return True

    def _answer(self) -> tuple[str, bool]:
        """More answer, and whether the tag behind it has come."""
        if not self._is_wrapped:
            answer, self._held = self._held, ""
            return answer, False
        at = self._held.find(self._answer_close)
        if at >= 0:
            answer = self._held[:at].rstrip()
            self._held = self._held[at + len(self._answer_close) :]
            self._state, self._is_wrapped, self._answer_open = _State.ANSWER_START, False, ""
            return answer, True
        keep = len(self._held) - held_length(self._held, (self._answer_close,))
        keep -= trailing_space(self._held[:keep])
        answer, self._held = self._held[:keep], self._held[keep:]
        return answer, False
