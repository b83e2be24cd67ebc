"""The engine's end of the socket: one thread that moves frames, and an engine object that computes elsewhere.

The IO thread owns every socket and buffer. `EngineServer.emit` is the only door for other threads: it encodes on the
caller's thread, one frame per connection and call, puts the frames on a queue and wakes the IO thread.
"""

import contextlib
import logging
import math
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from hugging_llama.engine.heartbeat import Heartbeat
from hugging_llama.engine.peer import Peer
from hugging_llama.errors import GenerationError, HuggingLlamaError, ProtocolError
from hugging_llama.ipc import messages as wire
from hugging_llama.ipc.channel import frame
from hugging_llama.ipc.codec import (
    ENCODE_ERRORS,
    EngineHello,
    LoadedModels,
    Reply,
    decode_command,
    encode_items,
    item_for,
    neutral_generate,
    neutral_tokenize,
    request_id_in,
    unreadable,
)
from hugging_llama.ipc.facade import Answer, Emit, EngineFacade, Key

logger = logging.getLogger(__name__)

_BACKLOG = 1024
_RECEIVE_BYTES = 2**18
_ACCEPT_PAUSE_S = 0.5
_NO_REQUEST = 0


class EngineServer:
    """Serves one engine object on one Unix socket. `run` is called once, on the main thread, and owns everything.

    `make_engine` gets `emit`. The socket appears under its name when `run` is ready to accept. With `linger_s` the
    server ends when nobody has been connected for that long. `heartbeat` beats while frames are moved.
    """

    def __init__(
        self,
        path: str,
        fingerprint: str,
        make_engine: Callable[[Emit], EngineFacade],
        linger_s: float | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._heartbeat = heartbeat or Heartbeat()
        self._linger_s = math.inf if linger_s is None else linger_s
        self._peers: dict[int, Peer] = {}
        self._outgoing: deque[tuple[int, bytes]] = deque()
        self._unsendable: deque[Key] = deque()
        self._num_accepted = 0
        self._was_greeted = False
        self._stopping = False
        self._empty_since = time.monotonic()
        self._accepts_at = math.inf
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._engine = make_engine(self.emit)

    def emit(self, answers: Sequence[tuple[Key, Answer]]) -> None:
        """Send what one step made. Callable from any thread; never blocks."""
        by_peer: dict[int, list[tuple[int, Reply]]] = {}
        for (peer_id, request_id), answer in answers:
            by_peer.setdefault(peer_id, []).append((request_id, answer))
        for peer_id, replies in by_peer.items():
            self._outgoing.append((peer_id, self._encode(peer_id, replies)))
        self.wake()

    def stop(self) -> None:
        """Make `run` return. Callable from any thread and from a signal handler."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # full of wake-ups already, or closed
            self._waker.send(b"\0")

    def run(self) -> None:
        """Serve until `stop`, or until nobody has been connected for `linger_s`."""
        listener = self._listen()
        try:
            while not self._stopping and not self._is_deserted():
                for key, events in self._selector.select(self._select_timeout_s()):
                    self._handle(key, events, listener)
                self._send_outgoing()
                self._heartbeat.beat()
                self._accept_again(listener)
        finally:
            self._close(listener)

    def _listen(self) -> socket.socket:
        """Bind under a name of our own, then take the public one: a stale file never blocks a start."""
        own_path = f"{self._path}.{os.getpid()}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(own_path)
        os.chmod(own_path, 0o600)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        os.rename(own_path, self._path)
        logger.info("the engine listens at %s", self._path)
        return listener

    def _close(self, listener: socket.socket) -> None:
        # the name first: who comes now shall start a new engine, not queue up here
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        listener.close()
        for peer in list(self._peers.values()):
            self._drop(peer)
        self._engine.close()
        self._selector.close()
        self._wake.close()
        self._waker.close()

    def _is_deserted(self) -> bool:
        return not self._peers and time.monotonic() - self._empty_since >= self._linger_s

    def _select_timeout_s(self) -> float | None:
        wait_s = min(self._heartbeat.wait_s, self._accepts_at - time.monotonic())
        if not self._peers:
            wait_s = min(wait_s, self._empty_since + self._linger_s - time.monotonic())
        return None if math.isinf(wait_s) else max(0.0, wait_s)

    def _handle(self, key: selectors.SelectorKey, events: int, listener: socket.socket) -> None:
        if isinstance(key.data, Peer):
            # each of these may drop the connection
            if events & selectors.EVENT_WRITE and key.data.is_open:
                self._flush(key.data)
            if events & selectors.EVENT_READ and key.data.is_open:
                self._receive(key.data)
        elif key.fileobj is listener:
            self._accept(listener)
        else:
            with contextlib.suppress(BlockingIOError):
                self._wake.recv(_RECEIVE_BYTES)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError as error:
            logger.warning("a connection can't be accepted: %s", error)
            # out of descriptors, most likely: to ask again at once would be all that this thread does
            self._selector.unregister(listener)
            self._accepts_at = time.monotonic() + _ACCEPT_PAUSE_S
            return
        sock.setblocking(False)
        self._num_accepted += 1
        peer = Peer(self._num_accepted, sock)
        self._peers[peer.id] = peer
        self._selector.register(sock, selectors.EVENT_READ, peer)

    def _accept_again(self, listener: socket.socket) -> None:
        if time.monotonic() >= self._accepts_at:
            self._accepts_at = math.inf
            self._selector.register(listener, selectors.EVENT_READ)

    def _receive(self, peer: Peer) -> None:
        try:
            data = peer.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return
        try:
            for payload in peer.frames.feed(data):
                if (command := self._command(peer, payload)) is not None:
                    self._obey(peer, command)
                if not peer.is_open:
                    return
        except ProtocolError as error:
            logger.warning("connection %d is dropped: %s", peer.id, error)
            self._reply(peer, _NO_REQUEST, error)
            self._drop(peer)

    def _command(self, peer: Peer, payload: bytes) -> wire.Command | None:
        """None for a request that can't be understood, who sent it has been told. Raises ProtocolError for all else.

        Its frame had its length, so the ones of all others behind it are as they were."""
        try:
            return decode_command(payload)
        except ProtocolError as error:
            request_id = request_id_in(payload) if peer.is_known else None
            if request_id is None:
                raise
            logger.warning("a request of connection %d is refused: %s", peer.id, error)
            self._reply(peer, request_id, unreadable(error))
            return None

    def _obey(self, peer: Peer, command: wire.Command) -> None:
        try:
            if peer.is_known:
                self._dispatch(peer, command)
            else:
                self._greet(peer, command)
        except ProtocolError:
            raise
        except HuggingLlamaError as error:
            self._reply(peer, getattr(command, "request_id", _NO_REQUEST), error)
        except Exception:
            # one request must not end the process that serves all
            logger.exception("a command failed")
            failure = GenerationError("the engine failed on this request")
            self._reply(peer, getattr(command, "request_id", _NO_REQUEST), failure)

    def _dispatch(self, peer: Peer, command: wire.Command) -> None:
        match command:
            case wire.Generate(request_id, request):
                self._engine.generate((peer.id, request_id), neutral_generate(request))
            case wire.Embed(request_id, request):
                self._engine.embed((peer.id, request_id), request)
            case wire.Classify(request_id, request):
                self._engine.classify((peer.id, request_id), request)
            case wire.Tokenize(request_id, request):
                self._engine.tokenize((peer.id, request_id), neutral_tokenize(request))
            case wire.Detokenize(request_id, request):
                self._engine.detokenize((peer.id, request_id), request)
            case wire.Load(request_id, request):
                self._engine.load((peer.id, request_id), request)
            case wire.Cancel() | wire.Unload() | wire.ListLoaded() | wire.AskStatus() | wire.Hello():
                self._control(peer, command)

    def _control(
        self, peer: Peer, command: wire.Cancel | wire.Unload | wire.ListLoaded | wire.AskStatus | wire.Hello
    ) -> None:
        match command:
            case wire.Cancel(request_id):
                self._engine.cancel((peer.id, request_id))
            case wire.Unload(model):
                self._engine.unload(model)
            case wire.ListLoaded() | wire.AskStatus():
                self._answer(peer, command)
            case wire.Hello():
                raise ProtocolError("a connection says hello once")

    def _answer(self, peer: Peer, question: wire.ListLoaded | wire.AskStatus) -> None:
        is_list = isinstance(question, wire.ListLoaded)
        reply = LoadedModels(tuple(self._engine.loaded())) if is_list else self._engine.status()
        self._reply(peer, question.request_id, reply)

    def _greet(self, peer: Peer, command: wire.Command) -> None:
        if not isinstance(command, wire.Hello):
            raise ProtocolError("the first frame must be a hello")
        if command.version != wire.PROTOCOL_VERSION or command.fingerprint != self._fingerprint:
            raise ProtocolError("the running engine was started by another version or with other settings")
        peer.is_known = True
        is_first, self._was_greeted = not self._was_greeted, True
        self._reply(peer, _NO_REQUEST, EngineHello(wire.PROTOCOL_VERSION, self._fingerprint, os.getpid(), is_first))

    def _reply(self, peer: Peer, request_id: int, reply: Reply) -> None:
        """Called on the IO thread. Goes through the same queue as `emit`, so that answers keep their order."""
        self._outgoing.append((peer.id, self._encode(peer.id, [(request_id, reply)])))
        self._send_outgoing()

    def _encode(self, peer_id: int, replies: list[tuple[int, Reply]]) -> bytes:
        try:
            return frame(encode_items(item_for(request_id, reply) for request_id, reply in replies))
        except (*ENCODE_ERRORS, ProtocolError):
            # one answer that can't be sent must not take the others of its step with it
            return b"".join(self._encode_one(peer_id, *reply) for reply in replies)

    def _encode_one(self, peer_id: int, request_id: int, reply: Reply) -> bytes:
        try:
            return frame(encode_items([item_for(request_id, reply)]))
        except (*ENCODE_ERRORS, ProtocolError) as error:
            logger.exception("an answer can't be sent")
            # not cancelled here: whoever emits may hold the engine's lock
            self._unsendable.append((peer_id, request_id))
            refusal = GenerationError(f"an answer can't be sent: {error}")
            return frame(encode_items([item_for(request_id, refusal)]))

    def _send_outgoing(self) -> None:
        while self._unsendable:
            self._engine.cancel(self._unsendable.popleft())
        touched: dict[int, Peer] = {}
        while self._outgoing:
            peer_id, data = self._outgoing.popleft()
            peer = self._peers.get(peer_id)
            if peer is None:
                continue  # gone in the meantime
            if not peer.enqueue(data):
                logger.warning("connection %d does not read and is dropped", peer.id)
                self._drop(peer)
                touched.pop(peer_id, None)
                continue
            touched[peer_id] = peer
        self._flush_all(touched.values())

    def _flush_all(self, peers: Iterable[Peer]) -> None:
        for peer in peers:
            self._flush(peer)

    def _flush(self, peer: Peer) -> None:
        if not peer.flush():
            self._drop(peer)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.has_output else 0)
        if wanted != peer.events:
            peer.events = wanted
            self._selector.modify(peer.sock, wanted, peer)

    def _drop(self, peer: Peer) -> None:
        if self._peers.pop(peer.id, None) is None:
            return
        self._selector.unregister(peer.sock)
        peer.close()
        self._engine.cancel_connection(peer.id)
        if not self._peers and peer.is_known:
            self._empty_since = time.monotonic()
