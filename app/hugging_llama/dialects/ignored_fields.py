"""The header that names what of a request had no effect."""

from flask import Response

IGNORED_HEADER = "X-Ignored-Fields"
_MAX_SHOWN = 20


def with_ignored(response: Response, names: list[str]) -> Response:
    """The answer, with what of the request nothing is done with in a header."""
    shown = [name for name in names[:_MAX_SHOWN] if name.isascii() and name.isprintable() and len(name) <= 80]
    if shown:
        response.headers[IGNORED_HEADER] = ", ".join(shown)
    return response
