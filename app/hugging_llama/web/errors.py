"""Error pages: our errors in the dialect of the caller, and Ollama's plain texts for unknown routes."""

import logging
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from flask import Blueprint, Flask, Response, current_app, got_request_exception, redirect, request
from werkzeug.exceptions import BadHost, HTTPException, MethodNotAllowed, NotFound, default_exceptions
from werkzeug.routing import MapAdapter, WebsocketMismatch
from werkzeug.wrappers import Response as WerkzeugResponse

from hugging_llama import errors
from hugging_llama.descriptors import check_descriptors, descriptors_error
from hugging_llama.dialects.base import OUR_FAULT
from hugging_llama.dialects.client_gone import ClientGoneError
from hugging_llama.dialects.mounts import mount_name
from hugging_llama.dialects.request_facts import request_facts
from hugging_llama.dialects.request_id import request_id
from hugging_llama.errors import HuggingLlamaError, InvalidRequestError, ModelNotFoundError
from hugging_llama.web.disconnect import has_left
from hugging_llama.web.refusals import write_refusal
from hugging_llama_config.redaction import redacted

logger = logging.getLogger(__name__)

_TEXT = "text/plain; charset=utf-8"
_IN_QUERIES = "%!$&'()*+,;=:@/?-._~"
_ENTERED = "hugging_llama.entered"
_TYPES: dict[int, type[HuggingLlamaError]] = {
    400: errors.InvalidRequestError,
    401: errors.KeyRejectedError,
    403: errors.ForbiddenError,
    429: errors.RateLimitedError,
}


RenderError = Callable[[HuggingLlamaError], Response]


@dataclass(frozen=True, slots=True)
class ErrorPages:
    """Answers in one dialect, which `render` words."""

    render: RenderError

    def register(self, target: Blueprint) -> None:
        """Answer the errors that our own views raise; safe to do inside somebody else's application."""
        target.register_error_handler(HuggingLlamaError, self.own_error)
        target.register_error_handler(ClientGoneError, client_gone)
        target.register_error_handler(Exception, self.unexpected_error)
        # Flask asks for handlers of a status first, those of the application included
        for status in default_exceptions:
            if status >= 400:
                target.register_error_handler(status, self.unexpected_error)

    def own_error(self, error: HuggingLlamaError) -> Response:
        """A typed error before the first byte."""
        if isinstance(error, ModelNotFoundError):
            error = _unless_unseen(error)
        request_facts().fail(error.code)
        write_refusal(error)
        response = self.render(error)
        if response.status_code >= 500:
            logger.warning(
                "%s %s: %s: %s (request %s)",
                request.method,
                redacted(request.path),
                type(error).__name__,
                redacted(error.message),
                redacted(request_id()),
            )
        return response

    def unexpected_error(self, error: Exception) -> Any:
        """A bug of ours, an HTTP error raised by Flask or the WSGI server while the body was read, or whatever the
        application around us raises before our view is entered."""
        if isinstance(error, HTTPException):
            return self._http_error(error)
        if type(error).__module__ == "gunicorn.http.errors":
            request_facts().fail(InvalidRequestError.code)
            return self.render(InvalidRequestError(f"malformed request body: {error}"))
        if isinstance(error, ConnectionError) and has_left(request.environ):  # while somebody read the body
            return client_gone(error)
        if busy := descriptors_error(error):
            return self.own_error(busy)
        if _ENTERED not in request.environ and (handler := _handler_around_us(error)) is not None:
            return current_app.ensure_sync(handler)(error)
        # what watches the application for errors sees ours, too
        got_request_exception.send(current_app._get_current_object(), exception=error)  # type: ignore[attr-defined]
        request_facts().fail(HuggingLlamaError.code)
        logger.exception("%s %s failed (request %s)", request.method, redacted(request.path), redacted(request_id()))
        return self.render(HuggingLlamaError(OUR_FAULT))

    def _http_error(self, error: HTTPException) -> WerkzeugResponse | HTTPException:
        if (error.code or 0) < 400 or error.response is not None:
            return error
        typed = _typed(error)
        write_refusal(typed)
        response = self.render(typed)
        response.status_code = error.code or 500
        for name, value in error.get_headers(request.environ):
            if name.lower() not in ("content-type", "content-length"):
                response.headers[name] = value
        return response


def _unless_unseen(error: HuggingLlamaError) -> HuggingLlamaError:
    """A client that hears that a model is gone pulls it again."""
    try:
        check_descriptors()
    except HuggingLlamaError as busy:
        return busy
    return error


def mark_entered() -> None:
    """From here on an error of this request is ours."""
    request.environ[_ENTERED] = True


def _typed(error: HTTPException) -> HuggingLlamaError:
    """The same as an error of ours, so that a dialect says of which kind it is."""
    text = error.description or error.name
    if error.code == 413 and (limit := request.max_content_length) is not None:
        return errors.BodyTooLargeError(limit)
    return _TYPES.get(error.code or 500, HuggingLlamaError)(text)


def _handler_around_us(error: Exception) -> Callable[[Any], Any] | None:
    """What the application around us does about an exception of its own; a handler of all exceptions is none: ours of
    all is nearer."""
    names = request.blueprints[request.blueprints.index(mount_name()) + 1 :]
    for name in (*names, None):
        handlers = current_app.error_handler_spec[name][None]
        for cls in type(error).__mro__:
            if cls is Exception:
                break
            if handler := handlers.get(cls):
                return handler
    return None


def register_route_errors(app: Flask) -> None:
    """Answer unknown paths and methods as Ollama does; only where the whole application is ours."""
    app.register_error_handler(NotFound, not_found)
    app.register_error_handler(MethodNotAllowed, method_not_allowed)
    app.register_error_handler(BadHost, bad_host)
    app.register_error_handler(WebsocketMismatch, no_websocket)


def client_gone(error: Exception) -> Response:
    """Nobody reads this; the status is for the log and the figures."""
    request_facts().has_left = True
    return Response(status=499)


def not_found(error: NotFound) -> Response:
    """A trailing slash on a known path is redirected, anything else is Ollama's plain text."""
    return missed(current_app.create_url_adapter(request))


def missed(routes: MapAdapter | None) -> Response:
    """The answer to a path that is none of `routes`."""
    path = request.path
    is_known = routes is not None and path.rstrip("/") and routes.test(path.rstrip("/"), method=request.method)
    if path.endswith("/") and is_known:
        location = urllib.parse.quote(request.root_path + path.rstrip("/"))  # what was decoded may hold a newline
        if request.query_string:
            location += "?" + urllib.parse.quote(request.query_string, safe=_IN_QUERIES)
        return cast(Response, redirect(location, 301 if request.method == "GET" else 307, Response=Response))
    return Response("404 page not found", status=404, content_type=_TEXT)


def bad_host(error: BadHost) -> Response:
    """No path can be looked up under such a name."""
    return Response("400 bad request: malformed Host header", status=400, content_type=_TEXT)


def no_websocket(error: WebsocketMismatch) -> Any:
    """A route of ours, whose dialect says that it is not to be had so."""
    rule, _ = current_app.url_map.bind("").match(request.path, method=request.method, return_rule=True)
    request.url_rule = rule
    return current_app.handle_user_exception(InvalidRequestError("this is no WebSocket: send it without an Upgrade"))


def method_not_allowed(error: MethodNotAllowed) -> Response:
    """A known path with another method."""
    response = Response("405 method not allowed", status=405, content_type=_TEXT)
    if error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response
