"""Takes a worker's connections; where the system has nothing left for one more, that is a line in the log.

gevent writes a traceback for each that it can't take, up to a hundred a second. And it writes without a limit of time,
as gunicorn has it do: who asks for much and reads nothing would keep a worker's place for as long as they stay.
"""

import errno
import fcntl
import logging
import socket
import struct
import sys
import termios
import time
from typing import Any

import gevent.socket  # type: ignore[import-untyped]
from gevent import GreenletExit
from gevent.server import StreamServer  # type: ignore[import-untyped]

logger = logging.getLogger(__name__)

STALLED_S = 60.0
"""A client that takes nothing for so long of what it was sent is cut off: its kernel may tell of room only when half of
its buffer is free, and who reads 2 KB a second takes half a minute for that."""
_LOOKS = 5
"""So often it is looked at in this time."""
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TOLD_EVERY_S = 10.0


class ClientSocket(gevent.socket.socket):  # type: ignore[misc]
    """Who reads nothing is cut off, who reads slowly is not; the kernel's own limit, TCP_USER_TIMEOUT, cuts off both
    where the client has little room for what comes."""

    stalled_s = STALLED_S
    """Whoever has its connection may choose another time."""
    timeout: Any
    _write_event: Any

    def sendall(self, data: Any, flags: int = 0) -> None:
        """gevent's asks the system for the size of the buffer each time that anything is sent: a token is a few
        bytes."""
        left = memoryview(data)
        while left:
            left = left[self.send(left, flags) :]

    def send(self, data: Any, flags: int = 0, *timeout: Any) -> int:
        """Raises BrokenPipeError."""
        if self.timeout is not None:  # somebody else's limit, or who does not wait
            return int(super().send(data, flags, *timeout))
        while True:
            try:
                return int(super().send(data, flags, 0.0))
            except BlockingIOError:
                self._wait_for_room()
            except TimeoutError as error:  # the other machine has gone; gunicorn knows it by this name
                raise BrokenPipeError(errno.EPIPE, "the client is not there") from error

    def _wait_for_room(self) -> None:
        untaken, looks = self._untaken(), 0
        while looks < _LOOKS:
            try:
                gevent.socket.wait(self._write_event, self.stalled_s / _LOOKS, TimeoutError)
            except TimeoutError:
                # there is room only once a good part of the buffer is free, which may take a slow one long
                before, untaken = untaken, self._untaken()
                looks = 0 if untaken < before else looks + 1
            else:
                return
        # at once, and with all that lies in the buffer
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise BrokenPipeError(errno.EPIPE, "the client reads nothing")

    def _untaken(self) -> int:
        """The bytes that were sent and that its side has not taken; 0 where the system does not tell."""
        try:
            found = fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(found, sys.byteorder)


class PatientServer(StreamServer):  # type: ignore[misc]
    """gevent's, which pauses for a while after each connection that it could not take."""

    _told_at = -_TOLD_EVERY_S

    def do_read(self) -> Any:
        """Accepts a connection. Raises OSError; GreenletExit is what gevent takes without a word."""
        try:
            found = super().do_read()
        except OSError as error:
            if error.errno not in _SCARCE:
                raise
            if time.monotonic() >= self._told_at + _TOLD_EVERY_S:
                self._told_at = time.monotonic()
                logger.warning("connections can't be accepted: %s", error.strerror)
            raise GreenletExit from error
        if not found:
            return found
        sock, address = found
        return ClientSocket(sock.family, sock.type, sock.proto, fileno=sock.detach()), address
