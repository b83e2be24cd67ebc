"""The stand-in Hub itself: what it holds, what goes wrong, what it saw."""

import http.server
import math
import re
import socket
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tests.hub_server.repository import BAD_TOKEN, GOOD_TOKEN, READ_TOKEN, Account, Repo


class Allowance:
    """How much of a body may pass before it waits where it is; whoever raises it lets it go on."""

    def __init__(self, num_bytes: float) -> None:
        self._num_bytes = num_bytes
        self._changed = threading.Condition()

    def raise_to(self, num_bytes: float = math.inf) -> None:
        with self._changed:
            self._num_bytes = num_bytes
            self._changed.notify_all()

    def raise_by(self, num_bytes: float) -> None:
        self.raise_to(self._num_bytes + num_bytes)

    def wait_for(self, num_bytes: float, stopping: threading.Event) -> None:
        with self._changed:
            while num_bytes > self._num_bytes and not stopping.is_set():
                self._changed.wait(0.1)


@dataclass
class Fault:
    """What happens to the next `times` requests whose "METHOD /path" matches `pattern`.

    Replies: status (arg the number, `headers` beside it), body (arg the bytes of the reply), redirect (arg the URL),
    cut and stall (arg bytes are sent before), slow (arg bytes a second), held (arg an Allowance), corrupt, extra (more
    than announced), no_range. Connections: drop (no reply at all), mute (nothing is ever said), reset (at once),
    lost_reply (the work is done, its reply never sent). Uploads: cut_upload and stall_upload (arg bytes are read
    before), slow_upload (arg bytes a second), held_upload (arg an Allowance).
    """

    pattern: str
    mode: str
    arg: Any = None
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """A request as it came in; `sent` grows while the reply's body goes out, `received` while its own comes in."""

    method: str
    path: str
    host: str
    range: str
    authorization: str
    sent: int = 0
    received: int = 0


class StandInHub:
    """Use as a context manager; `endpoint` is what to configure.

    `objects` are big files that were uploaded, by sha256; `parts` those of them that come in parts of `part_size`
    bytes (0: in one piece).
    """

    def __init__(self, port: int = 0) -> None:
        from tests.hub_server.routes import HubRequest

        self.repos: dict[str, Repo] = {}
        self.accounts = {GOOD_TOKEN: Account("me", ("acme",)), READ_TOKEN: Account("reader", ("acme",), False)}
        self.bad_tokens = {BAD_TOKEN}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.part_size = 0
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.page_size = 1000
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        hub = self

        class Request(HubRequest):
            pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128  # a full queue costs who connects seconds

        Request.hub = hub
        self._server = Server(("127.0.0.1", port), Request)
        self._server.daemon_threads = True
        # of an upload that is slow little is on its way
        self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**18)
        self.port = int(self._server.server_address[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.other_host = f"http://localhost:{self.port}"  # where big files are, as with the real Hub
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "StandInHub":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def find(self, name: str) -> tuple[str, Repo] | None:
        """A repository in any case of letters, and how it is spelt."""
        return next(((id, repo) for id, repo in self.repos.items() if id.lower() == name.lower()), None)

    def fault(self, pattern: str, mode: str, arg: Any = None, times: int = 1, **headers: str) -> None:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        self.faults.append(Fault(pattern, mode, arg, times, named))

    def take_fault(self, request: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault
        return None

    def sent(self, pattern: str = "/_cdn/") -> int:
        """Bytes of the bodies that went out for matching requests."""
        return sum(seen.sent for seen in self.seen if re.search(pattern, seen.path))

    def received(self, pattern: str = "/_upload/") -> int:
        """Bytes of the bodies that came in with matching requests."""
        return sum(seen.received for seen in self.seen if re.search(pattern, seen.path))

    def requests(self, pattern: str) -> list[Seen]:
        return [seen for seen in self.seen if re.search(pattern, f"{seen.method} {seen.path}")]
