"""The parent's side of a child process that works for one request: started, listened to, ended.

Works with threads and in a process patched by gevent alike.
"""

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable

from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store.child_process import parse_message

HEARTBEAT_S = 1.0
"""How long `receive` waits: the caller looks then whether anybody is still interested."""
_EXIT_WAIT_S = 2.0
_MAX_LINE_BYTES = 2**20


class ChildConnection:
    """A child that `start` starts; it is given the number of a connected socket, which the child inherits.

    The child speaks as `child_process` says. Raises OSError, also what `start` raises.
    """

    def __init__(self, start: Callable[[int], "subprocess.Popen[bytes]"]) -> None:
        self._socket, theirs = socket.socketpair()
        self._buffer = b""
        try:
            with theirs:
                self._child = start(theirs.fileno())
        except OSError:
            self._socket.close()
            raise

    def send(self, request: bytes) -> None:
        """Hand over the request, a line. Raises OSError, also if the child is ended meanwhile."""
        self._socket.sendall(request)
        self._socket.settimeout(HEARTBEAT_S)

    def receive(self) -> TransferProgress | HuggingLlamaError | None:
        """The child's next message: progress, the error that ended it, None at its good end.

        Raises TimeoutError if it says nothing for a second, EOFError if it has ended without a word.
        """
        while b"\n" not in self._buffer:
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise
            except OSError:
                data = b""
            if not data or len(self._buffer) > _MAX_LINE_BYTES:
                raise EOFError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return parse_message(line)

    def interrupt(self) -> None:
        """Let go of the child, from any thread or greenlet: who waits in `receive` returns, and it ends soon."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the child."""
        self.interrupt()
        self._socket.close()
        self._child.kill()
        self.wait()

    def wait(self) -> int | None:
        """The status of a child that is about to end; None if it takes long.

        Does not block: in a patched process `sleep` lets others run, `Popen.wait` may not.
        """
        deadline = time.monotonic() + _EXIT_WAIT_S
        while self._child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return self._child.returncode
