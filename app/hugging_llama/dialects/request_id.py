"""The id of a request: its caller's own, or one of ours; in the answer's headers, its errors, and the log."""

import re
import secrets

from flask import Blueprint, Flask, Response, request

HEADER = "X-Request-ID"
_KEY = "hugging_llama.request_id"
_ID = re.compile(r"[\x21-\x7e]{1,128}")


def request_id() -> str:
    """The id of the current request, the same however often it is asked for."""
    found = request.environ.get(_KEY)
    if found is None:
        given = request.headers.get(HEADER, "")
        found = request.environ[_KEY] = given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
    return str(found)


def name_in_answers(target: Flask | Blueprint, header: str = HEADER) -> None:
    """Put the id into this header of every answer of `target`."""

    @target.after_request
    def _name(response: Response) -> Response:
        response.headers[header] = request_id()
        return response
