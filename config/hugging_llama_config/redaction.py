"""Secrets that stand where none belongs, such as a name or a path, taken out of what is written down."""

import re

_MASK = "***"
# a token of the Hub, and a key of ours: shorter ones are no such thing, and may be names
_TOKENS = re.compile(r"(?<![A-Za-z0-9])(?:(hf_)[A-Za-z0-9_-]{8,}|(hl-)[A-Za-z0-9_-]{16,})")
# a proxy may have made one slash of two
_USER_INFO = re.compile(r"(?<=:/)(/?)[^/\s\"]*@")


def redacted(text: str) -> str:
    """The same text without tokens of the Hub, keys of ours, and what stands before the host of a URL."""
    if "@" in text:
        text = _USER_INFO.sub(rf"\1{_MASK}@", text)
    return _TOKENS.sub(lambda found: f"{found[1] or found[2]}{_MASK}", text)
