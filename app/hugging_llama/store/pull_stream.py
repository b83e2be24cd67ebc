"""A pull as the web side sees it: an iterator over what a child process reports."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import Literal

from hugging_llama.errors import HuggingLlamaError, InvalidRequestError, TransferError
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store import names, pull_process
from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.local import Store
from hugging_llama.store.names import ModelName
from hugging_llama.store.pull import PullRequest
from hugging_llama.store.pull_slots import PullSlots
from hugging_llama.store.retry import RetryPolicy
from hugging_llama_config.settings import Settings

# How often something is yielded at least: the caller notices there whether its own client is still interested.
_HEARTBEAT_S = 1.0
_EXIT_WAIT_S = 2.0
_DEFAULT_POLICY = RetryPolicy()


class PullStream:
    """The progress of a pull. Works with threads and in a process patched by gevent alike.

    `next` blocks for at most about a second: while nothing happens the last progress is said again. It raises what
    `pull.pull_files` raises. `close` ends this pull and may be called at any time, from any thread or greenlet, more
    than once; what has arrived is kept, and another pull of the same files goes on.
    """

    def __init__(self, request: PullRequest, slots: PullSlots) -> None:
        self._request = request
        self._slots = slots
        self._last: TransferProgress | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._is_closed = False

    def __iter__(self) -> "PullStream":
        return self

    def __next__(self) -> TransferProgress:
        if self._is_closed:
            raise StopIteration
        if self._last is None:
            self._last = TransferProgress(status="pulling manifest")
            return self._last
        if self._request.name.repo == names.DEMO_REPO:  # comes with us, is never on its way
            self._is_closed = True
            return TransferProgress(status="success")
        try:
            message = self._receive()
        except BaseException:
            self.close()
            raise
        if isinstance(message, TransferProgress) and not self._is_closed:
            self._last = message
            return message
        self.close()
        if isinstance(message, HuggingLlamaError):
            raise message
        raise StopIteration

    def close(self) -> None:
        """End the pull."""
        self._is_closed = True
        child, connection = self._child, self._socket
        self._child = self._socket = None
        if connection:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes a `next` that waits
            connection.close()
        if child:
            _reap(child)
        self._slots.give_back(self)

    def _receive(self) -> TransferProgress | HuggingLlamaError | None:
        """The next message of the child; the last one again if none comes in time; None at the end."""
        connection = self._socket
        if connection is None:
            if not self._slots.take(self):
                time.sleep(_HEARTBEAT_S)
                return self._last
            connection = self._start()
        while b"\n" not in self._buffer:
            try:
                data = connection.recv(65536)
            except TimeoutError:
                return self._last
            except OSError:
                data = b""
            if not data:
                return None if self._is_closed else self._death()
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return pull_process.parse_message(line)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                os.set_inheritable(theirs.fileno(), True)
                self._child = subprocess.Popen(
                    [sys.executable, "-P", "-m", pull_process.__name__, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # an interrupt at the terminal is for the server
                )
            ours.sendall(pull_process.render_request(self._request))
        except OSError as error:
            ours.close()
            if self._is_closed:  # meanwhile, so that the child is gone
                raise StopIteration from error
            raise TransferError("the download can't be started", cause="no process") from error
        ours.settimeout(_HEARTBEAT_S)
        self._socket = ours
        if self._is_closed:  # meanwhile
            self.close()
        return ours

    def _death(self) -> TransferError:
        return TransferError(
            "the download process ended unexpectedly", repo=self._request.name.repo, cause="process ended"
        )


def pull(
    settings: Settings,
    store: Store,
    name: str,
    revision: str | None = None,
    *,
    trust_remote_code: bool = False,
    kind: Literal["model", "adapter"] = "model",
    policy: RetryPolicy = _DEFAULT_POLICY,
) -> PullStream:
    """Start to pull a model, or a LoRA adapter, into the Hub's cache; nothing happens before the first `next`.

    `revision` is another way to say what may follow the colon of the name. Raises InvalidRequestError for bad syntax,
    for two different revisions, and for `trust_remote_code` where the operator's settings don't allow it.
    """
    wanted = names.parse_name(name)
    if revision:
        chosen = names.parse_revision(revision)
        if wanted.revision not in (names.DEFAULT_REVISION, chosen):
            raise InvalidRequestError("the name and `revision` ask for different revisions", param="revision")
        wanted = ModelName(wanted.repo, chosen)
    if trust_remote_code and not settings.trust_remote_code:
        raise InvalidRequestError("this server does not allow remote code", param="trust_remote_code")
    repo = store.stored_repo(wanted.repo)
    if names.DEMO_REPO in (repo.lower(), f"hugging-llama/{repo.lower()}"):
        repo = names.DEMO_REPO
    return PullStream(
        PullRequest(
            name=ModelName(repo, wanted.revision),
            cache=os.path.abspath(settings.hub_cache),
            access=HubAccess(endpoint=settings.hub_endpoint.rstrip("/"), token=settings.hub_token),
            kind=kind,
            allow_code=trust_remote_code,
            policy=policy,
        ),
        store.pull_slots,
    )


def _reap(child: "subprocess.Popen[bytes]") -> None:
    """End the child and collect it without blocking: in a patched process `sleep` lets others run, `wait` may not."""
    child.kill()
    deadline = time.monotonic() + _EXIT_WAIT_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
