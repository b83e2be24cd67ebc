"""The header that names what of a request nothing was done with."""

from collections.abc import Collection
from urllib.parse import quote

IGNORED_HEADER = "X-Ignored-Fields"
_MAX_SHOWN = 20
_MAX_LENGTH = 80
_CUT = "..."
_PLAIN = "".join(map(chr, range(0x21, 0x7F))).replace("%", "").replace(",", "")
"""Everything else is percent-encoded: what ends a name in the header, and what no header may hold."""


def ignored_text(names: Collection[str]) -> str:
    """The header's value: so many names, as callers choose them, and how many more there are."""
    shown = [_encoded(name) for name in sorted(names)[:_MAX_SHOWN]]
    num_more = len(names) - len(shown)
    return ", ".join([*shown, f"and {num_more} more"] if num_more else shown)


def _encoded(name: str) -> str:
    if len(name) <= _MAX_LENGTH and len(whole := quote(name, safe=_PLAIN, errors="replace")) <= _MAX_LENGTH:
        return whole
    shown = ""
    for character in name:
        piece = quote(character, safe=_PLAIN, errors="replace")
        if len(shown) + len(piece) + len(_CUT) > _MAX_LENGTH:
            break
        shown += piece
    return shown + _CUT
