"""Leaves a tag out of a text that comes piece by piece."""

from hugging_llama.parsing.partial import held_length, trailing_space


class DroppedTag:
    """Fed piece by piece. With a tag goes the white space before it, and at the very beginning that behind it."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._held = ""
        self._at_start = True

    def push(self, text: str) -> str:
        """More text, possibly empty."""
        self._held += text
        found = ""
        while (at := self._held.find(self._tag)) >= 0:
            found += self._said(self._held[:at].rstrip())
            self._held = self._held[at + len(self._tag) :]
        if self._at_start:
            self._held = self._held.lstrip()
        keep = len(self._held) - held_length(self._held, (self._tag,))
        keep -= trailing_space(self._held[:keep])
        found += self._said(self._held[:keep])
        self._held = self._held[keep:]
        return found

    def finish(self) -> str:
        """What was held back for a tag that did not come."""
        held, self._held = self._held, ""
        return held

    def _said(self, text: str) -> str:
        self._at_start = self._at_start and not text
        return text
