"""Error pages: our errors in the dialect of the caller, and Ollama's plain texts for unknown routes."""

import logging
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Flask, Response, current_app, redirect, request
from werkzeug.exceptions import BadHost, HTTPException, MethodNotAllowed, NotFound
from werkzeug.wrappers import Response as WerkzeugResponse

from hugging_llama.dialects.base import OUR_FAULT, ClientGoneError
from hugging_llama.dialects.request_facts import request_facts
from hugging_llama.dialects.request_id import request_id
from hugging_llama.errors import HuggingLlamaError, InvalidRequestError

logger = logging.getLogger(__name__)

_TEXT = "text/plain; charset=utf-8"
_IN_QUERIES = "%!$&'()*+,;=:@/?-._~"


RenderError = Callable[[HuggingLlamaError], Response]


@dataclass(frozen=True, slots=True)
class ErrorPages:
    """Answers in one dialect, which `render` words."""

    render: RenderError

    def register(self, target: Flask | Blueprint) -> None:
        """Answer the errors that our own views raise; safe to do inside somebody else's application."""
        target.register_error_handler(HuggingLlamaError, self.own_error)
        target.register_error_handler(ClientGoneError, client_gone)
        target.register_error_handler(Exception, self.unexpected_error)

    def own_error(self, error: HuggingLlamaError) -> Response:
        """A typed error before the first byte."""
        request_facts().fail(error.code)
        response = self.render(error)
        if response.status_code >= 500:
            logger.warning(
                "%s %s: %s: %s (request %s)",
                request.method,
                request.path,
                type(error).__name__,
                error.message,
                request_id(),
            )
        return response

    def unexpected_error(self, error: Exception) -> WerkzeugResponse | HTTPException:
        """A bug of ours, or an HTTP error raised by Flask or the WSGI server while the body was read."""
        if isinstance(error, HTTPException):
            if (error.code or 0) < 400:
                return error
            response = self.render(HuggingLlamaError(error.description or error.name))
            response.status_code = error.code or 500
            return response
        if type(error).__module__ == "gunicorn.http.errors":
            request_facts().fail(InvalidRequestError.code)
            return self.render(InvalidRequestError(f"malformed request body: {error}"))
        request_facts().fail(HuggingLlamaError.code)
        logger.exception("%s %s failed (request %s)", request.method, request.path, request_id())
        return self.render(HuggingLlamaError(OUR_FAULT))


def register_route_errors(app: Flask) -> None:
    """Answer unknown paths and methods as Ollama does; only where the whole application is ours."""
    app.register_error_handler(NotFound, not_found)
    app.register_error_handler(MethodNotAllowed, method_not_allowed)
    app.register_error_handler(BadHost, bad_host)


def client_gone(error: ClientGoneError) -> Response:
    """Nobody reads this; the status is for the log and the figures."""
    request_facts().has_left = True
    return Response(status=499)


def not_found(error: NotFound) -> WerkzeugResponse:
    """A trailing slash on a known path is redirected, anything else is Ollama's plain text."""
    path = request.path
    if path.endswith("/") and _is_known(path.rstrip("/")):
        location = urllib.parse.quote(request.root_path + path.rstrip("/"))  # what was decoded may hold a newline
        if request.query_string:
            location += "?" + urllib.parse.quote(request.query_string, safe=_IN_QUERIES)
        return redirect(location, 301 if request.method == "GET" else 307)
    return Response("404 page not found", status=404, content_type=_TEXT)


def _is_known(path: str) -> bool:
    adapter = current_app.create_url_adapter(request)
    return bool(path) and adapter is not None and adapter.test(path, method=request.method)


def bad_host(error: BadHost) -> Response:
    """No path can be looked up under such a name."""
    return Response("400 bad request: malformed Host header", status=400, content_type=_TEXT)


def method_not_allowed(error: MethodNotAllowed) -> Response:
    """A known path with another method."""
    response = Response("405 method not allowed", status=405, content_type=_TEXT)
    if error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response
