"""A transfer as the web side sees it: an iterator over what a child process reports."""

import subprocess
import time
from dataclasses import dataclass, field

from hugging_llama.errors import HuggingLlamaError, TransferError
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store.child_connection import HEARTBEAT_S, ChildConnection
from hugging_llama.store.pull_slots import PullSlots
from hugging_llama_config.child import transfer_environment
from hugging_llama_config.interpreter import own_python


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
        self._connection: ChildConnection | None = None
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
            self._slots.check()
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
        connection, self._connection = self._connection, None
        if connection:
            connection.close()
        self._slots.give_back(self)

    def _receive(self) -> TransferProgress | HuggingLlamaError | None:
        """The next message of the child; the last one again if none comes in time; None at the end."""
        connection = self._connection
        if connection is None:
            if not self._slots.take(self):
                time.sleep(HEARTBEAT_S)
                return self._last
            connection = self._start()
        try:
            return connection.receive()
        except TimeoutError:
            return self._last
        except EOFError:
            return None if self._is_closed else self._failure("process ended unexpectedly", cause="process ended")

    def _start(self) -> ChildConnection:
        try:
            self._connection = connection = ChildConnection(self._run)
            connection.send(self._task.request)
        except OSError as error:
            if self._is_closed:  # meanwhile, so that the child is gone
                raise StopIteration from error
            raise self._failure(f"can't be started: {error.strerror or error}", cause="no process") from error
        if self._is_closed:  # meanwhile
            self.close()
        return connection

    def _run(self, fd: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [own_python(), "-P", "-m", self._task.module, str(fd)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[fd],
            env=transfer_environment(),
            start_new_session=True,  # an interrupt at the terminal is for the server
        )

    def _failure(self, what: str, cause: str) -> TransferError:
        return TransferError(f"the {self._task.word} {what}", repo=self._task.repo, cause=cause)
