'''Messages of several lines: what stands between `"""` and `"""`.'''

import re

_QUOTES = '"""'
# where a message may open them: at its beginning, or as the text of /set system
_OPENING = re.compile(r'\s*(?:/set\s+system\s+)?"""')


def is_open(text: str) -> bool:
    """Whether `text` opens quotes and does not close them: more is to come."""
    opening = _OPENING.match(text)
    return opening is not None and not text[opening.end() :].rstrip().endswith(_QUOTES)


def unquoted(text: str) -> str | None:
    """What stands in the quotes that `text` begins with, also if they are still open; None if it begins otherwise."""
    stripped = text.lstrip()
    if not stripped.startswith(_QUOTES):
        return None
    inside = stripped.removeprefix(_QUOTES)
    closed = inside.rstrip()
    return closed.removesuffix(_QUOTES) if closed.endswith(_QUOTES) else inside
