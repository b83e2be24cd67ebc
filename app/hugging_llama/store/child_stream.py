"""A transfer as the web side sees it: an iterator over what a child process reports."""

import contextlib
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

from hugging_llama.errors import HuggingLlamaError, TransferError
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store import child_process
from hugging_llama.store.pull_slots import PullSlots
from hugging_llama_config.child import transfer_environment

# How often something is yielded at least: the caller notices there whether its own client is still interested.
_HEARTBEAT_S = 1.0
_EXIT_WAIT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildTask:
    """What a child does: the module that is run, its request (a line, with secrets perhaps), what is said first.

    `word` names the work in error messages, `repo` is the repository in their facts.
    """

    module: str
    request: bytes = field(repr=False)
    first: TransferProgress
    word: str
    repo: str


class ChildStream:
    """The progress of a transfer. Works with threads and in a process patched by gevent alike.

    `next` blocks for at most about a second: while nothing happens the last progress is said again. It raises what the
    child's work raises. `close` ends this transfer and may be called at any time, from any thread or greenlet, more
    than once.
    """

    def __init__(self, task: ChildTask, slots: PullSlots) -> None:
        self._task = task
        self._slots = slots
        self._last: TransferProgress | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._is_closed = False

    def __iter__(self) -> "ChildStream":
        return self

    def __next__(self) -> TransferProgress:
        if self._is_closed:
            raise StopIteration
        if self._last is None:
            self._last = self._task.first
            return self._last
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
        """End the transfer."""
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
        return child_process.parse_message(line)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._child = subprocess.Popen(
                    [sys.executable, "-P", "-m", self._task.module, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=transfer_environment(),
                    start_new_session=True,  # an interrupt at the terminal is for the server
                )
            ours.sendall(self._task.request)
        except OSError as error:
            ours.close()
            if self._is_closed:  # meanwhile, so that the child is gone
                raise StopIteration from error
            raise TransferError(f"the {self._task.word} can't be started", cause="no process") from error
        ours.settimeout(_HEARTBEAT_S)
        self._socket = ours
        if self._is_closed:  # meanwhile
            self.close()
        return ours

    def _death(self) -> TransferError:
        return TransferError(
            f"the {self._task.word} process ended unexpectedly", repo=self._task.repo, cause="process ended"
        )


def _reap(child: "subprocess.Popen[bytes]") -> None:
    """End the child and collect it without blocking: in a patched process `sleep` lets others run, `wait` may not."""
    child.kill()
    deadline = time.monotonic() + _EXIT_WAIT_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
