"""The bytes of a request's body, wherever they are: an application around us may have read them before we are asked."""

import io
from typing import IO

from flask import Request

from hugging_llama.dialects.body_clock import BodyClock, socket_of
from hugging_llama.dialects.client_gone import ClientGoneError
from hugging_llama.errors import BodyTooSlowError, InvalidRequestError


class BodyStream:
    """Read piece by piece; made before anything of it is read here."""

    def __init__(self, request: Request) -> None:
        if "asgi.scope" in request.environ and request.content_length is None:
            # a2wsgi ends a body of unknown length as it should, and does not say so
            request.environ["wsgi.input_terminated"] = True
        self._request = request
        self._stream: IO[bytes] = request.stream
        self._has_begun = False
        self._missing = request.content_length or 0
        self.connection = socket_of(request.environ)
        """None where the server does not show it."""

    def read_in_time(self, size: int, seconds: float) -> bytes:
        """As `read`. Raises BodyTooSlowError if that takes longer, ClientGoneError if the connection broke."""
        clock = BodyClock(self.connection, seconds)
        try:
            with clock:
                piece = self.read(size)
        except Exception as error:
            if clock.is_over:
                raise BodyTooSlowError from None
            if isinstance(error, ConnectionError):
                raise ClientGoneError from error
            raise
        if clock.is_over:
            raise BodyTooSlowError
        return piece

    def read(self, size: int) -> bytes:
        """At most so many bytes, none at the end. Raises InvalidRequestError for a body that somebody has taken, or
        that ends before its Content-Length: a part of it may be a whole request that nobody has meant."""
        piece = self._read(size)
        self._missing -= len(piece)
        if not piece and size and self._missing > 0:
            raise InvalidRequestError("the body ends before its Content-Length")
        return piece

    def _read(self, size: int) -> bytes:
        piece: bytes = self._stream.read(size)
        if piece or self._has_begun:
            self._has_begun = True
            return piece
        self._has_begun = True
        # `get_data`, or the JSON, that a hook has asked for is kept by the request
        kept = self._request.get_data()
        if not kept and self._request.content_length:
            raise InvalidRequestError(
                "something in front of this API has read the request's body as a form; send it as "
                "Content-Type: application/json, or leave these paths out of what reads forms"
            )
        environ = self._request.environ
        if not kept and "HTTP_TRANSFER_ENCODING" in environ and not environ.get("wsgi.input_terminated"):
            raise InvalidRequestError("this server reads no bodies in chunks; send it with a Content-Length")
        self._stream = io.BytesIO(kept)
        return self._stream.read(size)
