"""Takes a worker's connections; where the system has nothing left for one more, that is a line in the log.

gevent writes a traceback for each that it can't take, up to a hundred a second.
"""

import errno
import logging
import time
from typing import Any

import gevent.socket  # type: ignore[import-untyped]
from gevent import GreenletExit
from gevent.server import StreamServer  # type: ignore[import-untyped]

logger = logging.getLogger(__name__)

_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TOLD_EVERY_S = 10.0


class ClientSocket(gevent.socket.socket):  # type: ignore[misc]
    """gevent's asks the system for the size of the buffer each time that anything is sent: a token is a few bytes."""

    def sendall(self, data: Any, flags: int = 0) -> None:
        if (sent := self.send(data, flags)) < len(data):
            super().sendall(memoryview(data)[sent:], flags)


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
