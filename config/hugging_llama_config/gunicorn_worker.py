"""gunicorn's gevent worker, whose own answers to what is no proper request are JSON, as all our others are, and whose
streams get their end on Ctrl+C, too.

Such a request reaches no application. What gunicorn says of it, to the caller and in its log, may quote a line of it,
and so a key: of what was sent no more is kept than the name of a header.

And a request's head has a size, all in all. gunicorn has one for each header and their number, and looks through all
that it has of a head each time that more of it comes: heads of some megabytes, from callers that nobody knows yet,
would keep a worker busy for minutes. So has a body that nobody reads, of a request that is refused: gunicorn takes all
of it, however much, and while there is more to take it serves nobody else.
"""

import faulthandler
import json
import re
from typing import Any

from gevent import GreenletExit  # type: ignore[import-untyped]
from gunicorn import http, util
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.errors import LimitRequestHeaders, UnsupportedTransferCoding
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.workers import ggevent
from gunicorn.workers.ggevent import GeventWorker

from hugging_llama_config.accepting import PatientServer
from hugging_llama_config.gunicorn_body import MAX_HEAD_BYTES, ChunkedBody, SharingUnreader, give_turn
from hugging_llama_config.path_dialects import dialect_of

_HARMLESS = re.compile(r"[A-Z-]{1,30}")
# what gunicorn's errors keep of a request
_QUOTED = ("hdr", "req", "method", "version", "expect", "data", "term", "line")
_OUR_FAULT = "internal server error; the server's log has the details"
MAX_UNREAD_BYTES = 128 * 1024 * 1024
"""Of a body that nobody has read, as it is sent: so much is taken, that its sender gets to see the answer."""
_UNREAD_AT_ONCE = 64 * 1024
_BEGINNING_BYTES = 4096
"""Of a head: the path that is asked for stands here."""
_QUIT_WITHIN_S = 2
_PATH = "hugging_llama_path"
"""What an error of a request's head keeps of it."""
_HTTP = (1, 1)


class BoundedRequest(Request):  # type: ignore[misc]
    """A request whose head may have MAX_HEAD_BYTES."""

    headers: Any
    path: Any
    version: Any
    body: Any
    unreader: Any
    _beginning = b""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except Exception as error:
            setattr(error, _PATH, _path_in(self._beginning) if self.path is None else self.path)
            raise

    def parse(self, unreader: Any) -> Any:
        """What was read beyond the head. A later HTTP/1 than there is is answered in the one that we speak: gunicorn
        repeats the request's."""
        rest = super().parse(unreader)
        self.version = min(self.version, _HTTP)
        return rest

    def read_into(self, unreader: Any, buf: Any, stop: bool = False) -> None:
        """Reads more of the head. Raises LimitRequestHeaders."""
        super().read_into(unreader, buf, stop)
        if self.path is None:
            self._beginning = bytes(buf[:_BEGINNING_BYTES])
        if len(buf) > MAX_HEAD_BYTES:
            raise LimitRequestHeaders("max buffer headers")

    def set_body_reader(self) -> None:
        """Raises UnsupportedTransferCoding: gunicorn takes a body that is packed on its way for one that is not."""
        super().set_body_reader()
        for name, value in self.headers:
            if name == "TRANSFER-ENCODING" and value.strip(" \t").lower() != "chunked":
                raise UnsupportedTransferCoding(value)
        if isinstance(self.body.reader, ChunkedReader):
            self.body = Body(ChunkedBody(self, self.unreader))


class BoundedParser(RequestParser):  # type: ignore[misc]
    """The requests of a connection, one after the other."""

    mesg_class = BoundedRequest

    def __init__(self, cfg: Any, source: Any, source_addr: Any) -> None:
        super().__init__(cfg, source, source_addr)
        self.unreader = SharingUnreader(source)

    def __next__(self) -> Any:
        if self.mesg is not None:
            give_turn()
        return super().__next__()

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """Take what is left of the last request's body; False where the connection is to end, for a body that is too
        large or broken. That is no error to tell: the request has its answer."""
        if self.mesg is None:
            return True
        body = self.mesg.body
        most = self.unreader.received_bytes + MAX_UNREAD_BYTES
        try:
            while not getattr(body, "failed", False) and self.unreader.received_bytes < most:
                if not body.read(_UNREAD_AT_ONCE):
                    return True
        except Exception:
            return False
        return False


class JsonErrorWorker(GeventWorker):  # type: ignore[misc]
    """Which errors there are, their statuses and their lines in the log stay gunicorn's."""

    alive: bool

    def init_process(self) -> None:
        """In the worker's own process, before it takes connections."""
        faulthandler.enable()  # a crash of native code says where, as that of the engine does
        # gunicorn has no other place to name the class of what reads requests, nor of what accepts
        http.RequestParser = BoundedParser
        ggevent.StreamServer = PatientServer
        super().init_process()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """As on TERM, in little time. One Ctrl+C comes twice, from the terminal and from the master, and gunicorn's own
        way out of a worker that is on its way out already is a traceback."""
        self.cfg.set("graceful_timeout", min(_QUIT_WITHIN_S, self.cfg.graceful_timeout))
        if self.alive:
            self.alive = False
            self.cfg.worker_int(self)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answers a request that could not be read, or that failed outside of the application. A worker that ends takes
        idle connections with it, which is no error."""
        if isinstance(exc, GreenletExit):
            return
        _forget_request(exc)
        page = _Page()
        super().handle_error(req, page, addr, exc)
        status_line = bytes(page.data).partition(b"\r\n")[0]
        status_line = status_line.replace(b" 501 Bad Request", b" 501 Not Implemented")  # as gunicorn has it
        is_ours = status_line.split(b" ")[1:2] == [b"500"]
        path = getattr(exc, _PATH, "") or getattr(req, "path", "") or ""
        body = json.dumps(_error_json(path, _OUR_FAULT if is_ours else f"malformed request: {exc}", is_ours)).encode()
        head = b"\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
        try:
            util.write_nonblock(client, status_line + head % len(body) + body)
        except Exception:
            self.log.debug("an error could not be sent")


def _error_json(path: str, message: str, is_ours: bool) -> dict[str, Any]:
    """In the shape that the clients of this path read."""
    kind = "api_error" if is_ours else "invalid_request_error"
    match dialect_of(path):
        case "anthropic":
            return {"type": "error", "error": {"type": kind, "message": message}}
        case "openai":
            return {"error": {"message": message, "type": kind, "param": None, "code": None}}
        case "ollama":
            return {"error": message}


def _path_in(beginning: bytes) -> str:
    """Of a request's line that was not taken, "" where it has none."""
    words = beginning.lstrip(b"\r\n").partition(b"\r\n")[0].split(b" ")
    try:
        return str(util.split_request_uri(words[1].decode("latin-1")).path)
    except (IndexError, ValueError):
        return ""


class _Page:
    """In a socket's place: takes the page that gunicorn would send."""

    def __init__(self) -> None:
        self.data = bytearray()

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self.data += data


def _forget_request(exc: BaseException) -> None:
    if type(exc).__module__ != "gunicorn.http.errors":
        return
    for name in _QUOTED:
        value = getattr(exc, name, None)
        if isinstance(value, str | bytes | tuple) and not (isinstance(value, str) and _HARMLESS.fullmatch(value)):
            setattr(exc, name, "...")  # in ASCII, as gunicorn has its pages
