"""How much a text in JSON holds, beside its bytes: counted in these, before anything is made of them.

A list is three bytes, and as Python has it more than fifty: who makes twenty million of them, or walks through them,
serves nobody else for a minute.
"""

from dataclasses import dataclass

_CHUNK_BYTES = 2**18
"""What is split at once: others get their turn between."""


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
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 2 * most_strings:
        return None
    commas = colons = parts = 0
    is_inside = False
    for begin in range(0, len(bare), _CHUNK_BYTES):
        pieces = bare[begin : begin + _CHUNK_BYTES].split(b'"')
        found = count_all(b"".join(pieces[is_inside::2]))
        commas, colons, parts = commas + found.commas, colons + found.colons, parts + found.parts
        is_inside ^= len(pieces) % 2 == 0
    return Counts(commas, colons, parts)
