"""One connected web worker, as the engine's IO thread keeps it."""

import selectors
import socket
import time
from collections import deque

from hugging_llama.ipc.channel import FrameReader

MAX_BACKLOG_BYTES = 32 * 2**20
"""What may wait for a worker that takes nothing of it for STALLED_S: it hangs."""
STALLED_S = 10.0
MOST_BACKLOG_BYTES = 2**30
"""What may wait for one that reads, but too slowly for what it asks: more than a dozen of the largest answers."""


class Peer:
    """Its socket, what came in part, and what still has to go out. Belongs to the IO thread."""

    def __init__(self, peer_id: int, sock: socket.socket) -> None:
        self.id = peer_id
        self.sock = sock
        self.frames = FrameReader()
        self.is_known = False
        self.is_open = True
        self.events = selectors.EVENT_READ
        self._out: deque[memoryview] = deque()
        self._backlog_bytes = 0
        self._taken_at = time.monotonic()

    @property
    def has_output(self) -> bool:
        return bool(self._out)

    @property
    def _is_stalled(self) -> bool:
        return time.monotonic() - self._taken_at > STALLED_S

    def enqueue(self, data: bytes) -> bool:
        """False if too much waits already and none of it moves; a single frame may be longer than the limit."""
        if not self._out:
            self._taken_at = time.monotonic()
        if self._backlog_bytes > MOST_BACKLOG_BYTES or (self._backlog_bytes > MAX_BACKLOG_BYTES and self._is_stalled):
            return False
        self._out.append(memoryview(data))
        self._backlog_bytes += len(data)
        return True

    def flush(self) -> bool:
        """Send what the socket takes. False if the connection is gone."""
        try:
            while self._out:
                sent = self.sock.send(self._out[0])
                self._backlog_bytes -= sent
                self._taken_at = time.monotonic()
                if sent == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = self._out[0][sent:]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.is_open = False
        self.sock.close()
