"""Finds where a JSON or Python value ends in a text that grows, reading each character once."""

_PAIRS = {"{": "}", "[": "]", "(": ")"}


class ValueEnd:
    """For a value that begins with one of `starts`, or with the first brace after a name.

    `quotes` are the characters around strings; what brackets are in those does not count.
    """

    def __init__(self, starts: str = "{[", quotes: str = '"') -> None:
        self._starts = starts
        self._quotes = quotes
        self._at = 0
        self._open: list[str] = []
        self._quote = ""
        self._escaped = False
        self._begun = False

    def find(self, text: str) -> int | None:
        """The index after the value, None while it goes on. `text` is the same at each call, with more at its end."""
        while self._at < len(text):
            character = text[self._at]
            self._at += 1
            if self._quote:
                self._in_string(character)
            elif not self._begun:
                self._begin(character)
            elif character in self._quotes:
                self._quote = character
            elif character in _PAIRS:
                self._open.append(_PAIRS[character])
            elif character in _PAIRS.values() and (self._open.pop() != character or not self._open):
                return self._at
        return None

    def _begin(self, character: str) -> None:
        if character in self._starts:
            self._begun = True
            self._open.append(_PAIRS[character])
        elif not character.isspace():
            self._starts = "{"

    def _in_string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == self._quote:
            self._quote = ""
