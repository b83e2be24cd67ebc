"""What every dialect's views share: the context, parsing a body, streaming events as bytes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from flask import Response, current_app, request

from hugging_llama.dialects.json_body import parse_object, read_body
from hugging_llama.errors import HuggingLlamaError, ModelNotFoundError
from hugging_llama.neutral.events import EventStream
from hugging_llama.neutral.models import LocalModel
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.models import resolve_model

EventT = TypeVar("EventT")

EXTENSION = "hugging_llama"
WEB_EXTENSION = "hugging_llama_web"
STREAM_HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}


class ClientGoneError(Exception):
    """The caller closed the connection before there was anything to say."""


class EndWatch(Protocol):
    """A running watch; it must be cancelled before the server closes the connection."""

    def cancel(self) -> None: ...


@dataclass(slots=True)
class KnownDevice:
    """The engine's device as far as this worker knows; corrected whenever the engine tells."""

    name: str


class Exporter(Protocol):
    """Renders the web side's metrics: the text and its content type."""

    def generate_metrics(self) -> tuple[str, str]: ...


@dataclass(frozen=True, slots=True)
class WebContext:
    """What views need beside the operations' context.

    `watch_disconnect` takes the WSGI environ and what to call when the caller hangs up.
    """

    watch_disconnect: Callable[[dict[str, Any], Callable[[], None]], EndWatch]
    device: KnownDevice
    exporter: Exporter


def web_context() -> WebContext:
    """The web context of the application that serves this request."""
    return cast(WebContext, current_app.extensions[WEB_EXTENSION])


def app_context() -> AppContext:
    """The operations' context of the application that serves this request."""
    return cast(AppContext, current_app.extensions[EXTENSION])


def local_model(name: str) -> LocalModel:
    """The model on disk that `name` means; the empty name is one that nobody has. Raises ModelNotFoundError."""
    if not name:
        raise ModelNotFoundError("", "")
    return resolve_model(app_context(), name)


def json_payload() -> dict[str, Any]:
    """The request's body as an object. Raises InvalidRequestError."""
    return parse_object(read_body(request, app_context().settings.max_body_bytes))


class Watched(Iterable[EventT]):
    """An event stream that is closed as soon as its caller hangs up, whether or not anything is being written."""

    def __init__(self, events: EventStream[EventT]) -> None:
        self._events = events
        self._watch = web_context().watch_disconnect(request.environ, events.close)

    def __iter__(self) -> Iterator[EventT]:
        return iter(self._events)

    def first(self) -> EventT:
        """The first event. Raises ClientGoneError if the caller left before, or the stream's error."""
        try:
            return next(self._events)
        except StopIteration:
            raise ClientGoneError from None

    def close(self) -> None:
        self._watch.cancel()
        self._events.close()

    def drain(self) -> list[EventT]:
        """All events, with the stream closed at the end. Raises ClientGoneError if the caller left."""
        try:
            found = [self.first()]
            found.extend(self._events)
            return found
        finally:
            self.close()


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
    try:
        first = events.first()
    except BaseException:
        events.close()
        raise

    def body() -> Iterator[bytes]:
        try:
            yield render(first)
            for event in events:
                if chunk := render(event):
                    yield chunk
        except HuggingLlamaError as error:
            yield render_error(error)

    response = Response(body(), mimetype=mimetype, headers=STREAM_HEADERS)
    # not the generator's `finally`: closing a generator that never started runs nothing
    response.call_on_close(events.close)
    return response
