"""The parent's side of a conversion process: started, listened to, ended."""

import contextlib
import signal
import socket
import time

from hugging_llama.errors import HuggingLlamaError, InvalidRequestError, TransferError
from hugging_llama.neutral.conversion import ConversionRequest
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store.child_process import parse_message
from hugging_llama_config import launch
from hugging_llama_config.settings import Settings

_HEARTBEAT_S = 1.0
_EXIT_WAIT_S = 2.0
_MAX_LINE_BYTES = 2**20


class ConversionProcess:
    """A process that serves `request`. It holds `lock` open as long as it lives. Raises TransferError if none starts.

    Works with threads and in a process patched by gevent alike.
    """

    def __init__(self, settings: Settings, request: ConversionRequest, lock: int) -> None:
        self._connection, theirs = socket.socketpair()
        self._buffer = b""
        try:
            with theirs:
                self._child = launch.start_conversion(settings, theirs.fileno(), lock)
            self._connection.sendall(request.to_line())
        except OSError as error:
            self._connection.close()
            raise TransferError("the conversion can't be started", cause="no process") from error
        self._connection.settimeout(_HEARTBEAT_S)

    def receive(self) -> TransferProgress | HuggingLlamaError | None:
        """Its next message: progress, the error that ended it, None at its good end.

        Raises TimeoutError if it says nothing for a second; an end without a word is an error, too.
        """
        while b"\n" not in self._buffer:
            try:
                data = self._connection.recv(65536)
            except TimeoutError:
                raise
            except OSError:
                data = b""
            if not data or len(self._buffer) > _MAX_LINE_BYTES:
                return self._death()
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return parse_message(line)

    def interrupt(self) -> None:
        """Let go of it, from any thread or greenlet: who waits in `receive` returns, and the process ends soon."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it; nobody may be in `receive`."""
        self._connection.close()
        self._child.kill()
        self._wait()

    def _wait(self) -> int | None:
        """Its status, without blocking: in a patched process `sleep` lets others run, `wait` may not."""
        deadline = time.monotonic() + _EXIT_WAIT_S
        while self._child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return self._child.poll()

    def _death(self) -> HuggingLlamaError:
        status = self._wait()
        if status == -signal.SIGXCPU:
            return InvalidRequestError("the conversion of this model takes too long and was ended", param="files")
        return TransferError("the conversion ended unexpectedly", cause="process ended")
