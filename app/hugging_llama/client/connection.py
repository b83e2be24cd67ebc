"""One connection of one process to the engine: who sends, who receives, what happens when it ends."""

import contextlib
import itertools
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from hugging_llama.client.streams import OpenStreams, QueueStream, Waits, shutdown_reply
from hugging_llama.errors import EngineDiedError, HuggingLlamaError, ProtocolError
from hugging_llama.ipc import messages as wire
from hugging_llama.ipc.channel import FrameReader, frame
from hugging_llama.ipc.codec import EngineHello, Reply, decode_items, encode_command

logger = logging.getLogger(__name__)

SEND_TIMEOUT_S = 10.0
_RECEIVE_BYTES = 2**18
_NO_REQUEST = 0

MakeCommand = Callable[[int], wire.Command]


class Connection:
    """Takes over `sock`. One thread (a greenlet where gevent patched) receives; any thread sends, under a lock.

    The receiver closes the socket, after the peer or `close` ended the connection.
    """

    def __init__(self, sock: socket.socket, fingerprint: str, timeout_s: float) -> None:
        """Raises OSError, EngineDiedError, or ProtocolError if the engine is of another version or settings."""
        self._sock = sock
        self._frames = FrameReader()
        self._sending = threading.Lock()
        self._ids = itertools.count(_NO_REQUEST + 1)
        self._streams = OpenStreams(self._send_cancel)
        self.alive = True
        # whether no process has been connected to this engine before
        self.is_first = self._shake_hands(fingerprint, timeout_s)
        threading.Thread(target=self._receive, daemon=True, name="hugging-llama-receiver").start()

    def request(self, command: MakeCommand, waits: Waits, *, generates: bool = False) -> QueueStream[Any]:
        """Send the command made with a new id. Raises EngineDiedError if the connection is gone, or what encoding
        raises."""
        request_id = next(self._ids)
        payload = frame(encode_command(command(request_id)))
        stream = self._streams.open(request_id, waits, generates=generates)
        try:
            self._send(payload)
        except OSError as error:
            self._break()
            raise EngineDiedError(f"the engine can't be reached: {error}") from None
        if not self.alive:
            # the receiver may have ended all streams just before this one was opened
            self._end_streams()
        return stream

    def tell(self, command: wire.Command) -> None:
        """Send a command that has no answer; a dead connection is fine."""
        try:
            self._send(frame(encode_command(command)))
        except OSError:
            self._break()

    def shut_down(self) -> None:
        """End every open request as the server's shutdown does."""
        self._streams.end_all(shutdown_reply, cancel=True)

    def close(self) -> None:
        """End the connection; every open stream raises EngineDiedError."""
        self._break()
        self._end_streams()

    def forget(self) -> None:
        """In a forked child: let go of the parent's connection without touching it.

        The descriptor is pointed elsewhere instead of closed, as the socket object would close the number again
        when it is collected, and by then it may belong to somebody else.
        """
        self.alive = False
        if self._sock.fileno() < 0:
            return  # it ended before the fork
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, self._sock.fileno(), inheritable=False)
        os.close(null)

    def _shake_hands(self, fingerprint: str, timeout_s: float) -> bool:
        try:
            self._sock.settimeout(timeout_s)
            hello = wire.Hello(wire.PROTOCOL_VERSION, fingerprint, os.getpid())
            self._sock.sendall(frame(encode_command(hello)))
            reply = self._first_reply()
            if isinstance(reply, HuggingLlamaError):
                raise reply
            if not isinstance(reply, EngineHello):
                raise ProtocolError("the engine did not introduce itself")
            self._sock.settimeout(SEND_TIMEOUT_S)
            return reply.is_first
        except BaseException:
            self._sock.close()
            raise

    def _first_reply(self) -> Reply:
        while data := self._sock.recv(_RECEIVE_BYTES):
            for payload in self._frames.feed(data):
                for _, reply in decode_items(payload):
                    return reply
        raise EngineDiedError("the engine closed the connection")

    def _send(self, payload: bytes) -> None:
        with self._sending:
            self._sock.sendall(payload)

    def _send_cancel(self, request_id: int) -> None:
        if self.alive:
            self.tell(wire.Cancel(request_id))

    def _break(self) -> None:
        """After a frame that may have been sent in part nothing can follow; this wakes the receiver."""
        self.alive = False
        with contextlib.suppress(OSError):  # the peer may have been faster
            self._sock.shutdown(socket.SHUT_RDWR)

    def _receive(self) -> None:
        try:
            while True:
                try:
                    data = self._sock.recv(_RECEIVE_BYTES)
                except TimeoutError:
                    continue  # the time-out of this socket is meant for sending
                if not data:
                    break
                self._take(data)
        except (OSError, HuggingLlamaError) as error:
            if self.alive:
                logger.warning("the connection to the engine failed: %s", error)
        finally:
            self.alive = False
            self._sock.close()
            self._end_streams()

    def _take(self, data: bytes) -> None:
        for payload in self._frames.feed(data):
            for request_id, reply in decode_items(payload):
                if request_id == _NO_REQUEST and isinstance(reply, HuggingLlamaError):
                    raise reply
                self._streams.deliver(request_id, reply)

    def _end_streams(self) -> None:
        self._streams.end_all(lambda stream: EngineDiedError("the engine process ended"), cancel=False)
