"""How much a text in JSON holds, beside its bytes: counted in these, before anything is made of them.

A list is three bytes, and as Python has it more than fifty: who makes twenty million of them, or walks through them,
serves nobody else for a minute.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_CHUNK_BYTES = 2**18
"""What is split at once: others get their turn between."""
_AS_LISTS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


@dataclass(frozen=True, slots=True)
class Counts:
    """Signs of JSON's. Before each value stands a comma, a colon or the beginning of what it is the first of."""

    commas: int
    colons: int
    parts: int
    """Lists and objects."""


def count_all(text: bytes) -> Counts:
    """With those that stand in strings: cheap, and never too few."""
    return Counts(text.count(b","), text.count(b":"), text.count(b"[") + text.count(b"{"))


def count_outside(text: bytes, most_strings: int) -> Counts | None:
    """Those outside of strings, in UTF-8; None if there are more strings than `most_strings`, names counted, too."""
    bare = _without_escapes(text)
    if bare.count(b'"') > 2 * most_strings:
        return None
    commas = colons = parts = 0
    for piece in _outside(bare):
        found = count_all(piece)
        commas, colons, parts = commas + found.commas, colons + found.colons, parts + found.parts
    return Counts(commas, colons, parts)


def is_deeper(text: bytes, most: int) -> bool:
    """Whether lists and objects lie in each other more than `most` deep."""
    if count_all(text).parts <= most:
        return False
    left = b"".join(piece.translate(_AS_LISTS, _OTHERS) for piece in _outside(_without_escapes(text)))
    for _ in range(most):
        if b"[]" not in left:
            break
        left = left.replace(b"[]", b"")  # the innermost of all
    return b"[]" in left or len(left) > most


def _without_escapes(text: bytes) -> bytes:
    """Each quotation mark that is left begins a string, or ends one."""
    return text.replace(b"\\\\", b"").replace(b'\\"', b"")


def _outside(bare: bytes) -> Iterator[bytes]:
    """What stands outside of strings, piece by piece."""
    is_inside = False
    for begin in range(0, len(bare), _CHUNK_BYTES):
        pieces = bare[begin : begin + _CHUNK_BYTES].split(b'"')
        yield b"".join(pieces[is_inside::2])
        is_inside ^= len(pieces) % 2 == 0
