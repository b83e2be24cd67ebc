"""Ends a text at the first stop string; the stop string is not part of the output."""

from collections.abc import Sequence

from hugging_llama.parsing.partial import held_length


class StopStrings:
    """Fed piece by piece. Text that may be the beginning of a stop string is held back until that is decided.

    The stop string that is complete first wins, whatever the pieces; of two that end together, the longer one.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self._found: str | None = None

    @property
    def found(self) -> str | None:
        """The stop string that was met; from then on nothing comes out."""
        return self._found

    def push(self, text: str) -> str:
        """The text that is certain to be output."""
        if self._found is not None:
            return ""
        if not self._stops:
            return text
        self._held += text
        if first := self._first_stop():
            start, self._found = first
            output, self._held = self._held[:start], ""
            return output
        keep = len(self._held) - held_length(self._held, self._stops)
        output, self._held = self._held[:keep], self._held[keep:]
        return output

    def finish(self) -> str:
        """What was held back and has not become a stop string."""
        output, self._held = self._held, ""
        return output

    def _first_stop(self) -> tuple[int, str] | None:
        """Where it begins, and which it is."""
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        return min(found)[1:] if found else None
