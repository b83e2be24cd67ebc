"""What two of the state machines need: how much of a text's end may still become a marker."""

from collections.abc import Iterable


def held_length(text: str, markers: Iterable[str]) -> int:
    """Length in characters of the longest end of `text` that is a proper beginning of one of `markers`."""
    longest = 0
    for marker in markers:
        start = text.find(marker[0], max(len(text) - len(marker) + 1, 0))
        while 0 <= start < len(text) - longest:
            if marker.startswith(text[start:]):
                longest = len(text) - start
                break
            start = text.find(marker[0], start + 1)
    return longest


def trailing_space(text: str) -> int:
    """Number of white space characters at the end of `text`."""
    return len(text) - len(text.rstrip())
