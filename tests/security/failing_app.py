"""A WSGI application that fails where no error page of ours is reached."""

from collections.abc import Callable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    if environ["PATH_INFO"] == "/fine":
        start_response("200 OK", [("Content-Length", "4")])
        return [b"fine"]
    raise RuntimeError("what nobody else may read")
