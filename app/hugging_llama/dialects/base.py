"""What every dialect's views share: the context, parsing a body, streaming events as bytes."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, Protocol, TypeVar, cast

from flask import Response, after_this_request, request

from hugging_llama.dialects.body_schema import BodySchema
from hugging_llama.dialects.client_gone import ClientGoneError
from hugging_llama.dialects.ignored_header import IGNORED_HEADER, ignored_text
from hugging_llama.dialects.json_body import parse_object, read_body
from hugging_llama.dialects.known_names import MAX_FOUND
from hugging_llama.dialects.mounts import mounted
from hugging_llama.dialects.request_facts import request_facts
from hugging_llama.dialects.start_headers import start_headers
from hugging_llama.errors import (
    CloudModelError,
    ForbiddenError,
    HuggingLlamaError,
    InvalidRequestError,
    ModelNotFoundError,
    ProtocolError,
)
from hugging_llama.neutral.events import Classified, Embeddings, EventStream
from hugging_llama.neutral.models import LocalModel
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.models import full_name, list_models, names_of, resolve_model

logger = logging.getLogger(__name__)

EventT = TypeVar("EventT")

EXTENSION = "hugging_llama"
WATCH_EXTENSION = "hugging_llama_watch"
ACCESS_EXTENSION = "hugging_llama_access"
STREAM_HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
SMALL_BODY_BYTES = 2**16
"""For the body of an endpoint that takes names and switches."""
OUR_FAULT = "internal server error; the server's log has the details"


class EndWatch(Protocol):
    """A running watch; it must be cancelled before the server closes the connection."""

    def cancel(self) -> None: ...


WatchDisconnect = Callable[[dict[str, Any], Callable[[], None]], EndWatch]
"""Takes the WSGI environ and what to call, from another thread or greenlet, when the caller hangs up."""


class Access(Protocol):
    """What the caller of the current request may do; an application without one lets everybody do all."""

    def may_name(self, model: str) -> bool:
        """Whether it may use, or see, a model of this full name."""
        ...


def _access() -> Access | None:
    return cast(Access | None, mounted(ACCESS_EXTENSION))


def may_name(model: str) -> bool:
    """Whether the caller may use, or see, the model that is here under this full name: a pattern may be for any name
    that means it."""
    access = _access()
    return access is None or any(map(access.may_name, names_of(app_context(), model)))


def check_names(*names: str) -> None:
    """Raise ForbiddenError where the caller may not use a model that has, or is to have, one of these names; what is no
    name at all is left to whoever reads it."""
    for name in names:
        with contextlib.suppress(InvalidRequestError, CloudModelError):
            access = _access()
            _check(name, is_allowed=access is None or access.may_name(full_name(name)))


def check_models(*names: str) -> None:
    """Raise ForbiddenError where the caller may not use what one of these names means: the model that answers to it,
    which may have another one, or the one of the Hub that would be pulled."""
    for name in names:
        try:
            found = resolve_model(app_context(), name).ref.name
        except (ModelNotFoundError, InvalidRequestError, CloudModelError):
            check_names(name)
        else:
            _check(name, is_allowed=may_name(found))


def _check(name: str, *, is_allowed: bool) -> None:
    if not is_allowed:
        raise ForbiddenError(f"this key may not use the model {name[:200]!r}", model=name)


def app_context() -> AppContext:
    """The operations' context of the mount that serves this request."""
    return cast(AppContext, mounted(EXTENSION))


def local_model(name: str) -> LocalModel:
    """The model on disk that `name` means; the empty name is one that nobody has. Raises ModelNotFoundError."""
    if not name:
        raise ModelNotFoundError("", "")
    return named_model(name)


def named_model(name: str) -> LocalModel:
    """The model on disk that `name` means, which the caller may use. Raises ModelNotFoundError and ForbiddenError."""
    try:
        model = resolve_model(app_context(), name)
    except ModelNotFoundError:
        check_names(name)
        raise
    _check(name, is_allowed=may_name(model.ref.name))
    request_facts().model = model.ref.name
    return model


def visible_models() -> list[LocalModel]:
    """The models on disk that the caller may use, newest first."""
    return [model for model in list_models(app_context()) if may_name(model.ref.name)]


def json_payload(
    empty: str = "missing request body", limit: int | None = None, schema: BodySchema | None = None
) -> dict[str, Any]:
    """The request's body as an object; `empty` is the error's text where there is none, `limit` in bytes where the
    server's own is too much; `schema` says that it is no object. Raises InvalidRequestError, BodyTooLargeError or
    BodyTooSlowError."""
    settings = app_context().settings
    most = settings.max_body_bytes if limit is None else min(limit, settings.max_body_bytes)
    body = read_body(request, most, settings.body_timeout_s)
    return parse_object(body, empty, schema.not_an_object) if schema else parse_object(body, empty)


def json_body(schema: BodySchema, empty: str = "missing request body", limit: int | None = None) -> dict[str, Any]:
    """The request's body as `schema` reads it; the answer's header tells what of it nothing is done with.

    Raises InvalidRequestError, BodyTooLargeError or BodyTooSlowError.
    """
    payload = json_payload(empty, limit, schema)
    tell_ignored(schema.ignored(payload))
    return schema.parse(payload)


def tell_ignored(names: Iterable[str]) -> None:
    """Name what of the request nothing is done with in the answer's header."""
    told = request_facts().ignored
    is_first = not told
    told.update(islice(names, MAX_FOUND))
    if not (told and is_first):
        return

    @after_this_request
    def _tell(response: Response) -> Response:
        response.headers[IGNORED_HEADER] = ignored_text(told)
        return response


class Watched(Iterable[EventT]):
    """An event stream that is closed as soon as its caller hangs up, whether or not anything is being written."""

    def __init__(self, events: EventStream[EventT]) -> None:
        self._events = events
        self._is_caller_gone = False
        watch_disconnect: WatchDisconnect = mounted(WATCH_EXTENSION)
        try:
            self._watch = watch_disconnect(request.environ, self._leave)
        except BaseException:
            events.close()
            raise

    def __iter__(self) -> Iterator[EventT]:
        return iter(self._events)

    def first(self) -> EventT:
        """The first event. Raises ClientGoneError if the caller left before, or the stream's error."""
        try:
            return next(self._events)
        except StopIteration:
            if self._is_caller_gone:
                raise ClientGoneError from None
            raise ProtocolError("the engine's answer ended before it began") from None

    def close(self) -> None:
        self._watch.cancel()
        self._events.close()

    def drain(self) -> list[EventT]:
        """All events, with the stream closed at the end. Raises ClientGoneError if the caller left."""
        try:
            found = [self.first()]
            found.extend(self._events)
            if isinstance(found[0], Embeddings | Classified):
                _tell_start(found[0])
            return found
        finally:
            self.close()

    def _leave(self) -> None:
        self._is_caller_gone = True
        self._events.close()


def empty_response(status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that is its status alone: without a body, and so without a type of it."""
    response = Response(status=status, headers=headers)
    del response.headers["Content-Type"]
    return response


def _tell_start(answer: Embeddings | Classified) -> None:
    """In the headers of the request's answer."""
    headers = start_headers(answer)

    @after_this_request
    def _tell(response: Response) -> Response:
        response.headers.update(headers)
        return response


def stream_response(
    events: Watched[EventT],
    render: Callable[[EventT], bytes],
    render_error: Callable[[HuggingLlamaError], bytes],
    mimetype: str,
) -> Response:
    """Stream `events` as they come.

    The first event is awaited before the status line is sent, so that an early failure keeps its status; a later
    one becomes the dialect's in-band error.
    """
    facts = request_facts()
    try:
        first = events.first()
    except BaseException:
        events.close()
        raise

    def body() -> Iterator[bytes]:
        try:
            for event in chain((first,), events):
                if chunk := render(event):
                    yield chunk
        except HuggingLlamaError as error:
            facts.fail(error.code)
            yield render_error(error)
        except Exception:
            facts.fail(HuggingLlamaError.code)
            logger.exception("a stream failed")
            yield render_error(HuggingLlamaError(OUR_FAULT))

    response = Response(body(), mimetype=mimetype, headers=STREAM_HEADERS | start_headers(first))
    # not the generator's `finally`: closing a generator that never started runs nothing
    response.call_on_close(events.close)
    return response
