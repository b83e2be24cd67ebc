"""The sockets of a worker's clients."""

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
import gevent.socket  # type: ignore[import-untyped]
import pytest

from hugging_llama_config.accepting import ClientSocket, PatientServer

TIMEOUT_S = 30.0


@pytest.mark.parametrize("size", [0, 1, 150, 2**24])
def test_what_is_sent_arrives_whole_whether_or_not_it_fits_at_once(size: int) -> None:
    sent = bytes(range(256)) * (size // 256 + 1)
    sent = sent[:size] + b"end"
    kinds = []

    def send(sock: Any, address: object) -> None:
        kinds.append(type(sock))
        sock.sendall(sent[:size])
        sock.sendall(memoryview(sent)[size:])
        server.close()

    server = PatientServer(("127.0.0.1", 0), send)
    server.start()
    received = bytearray()

    def receive() -> None:
        with socket.create_connection(("127.0.0.1", server.server_port), TIMEOUT_S) as sock:
            while data := sock.recv(2**16):
                received.extend(data)

    reader = threading.Thread(target=receive)
    reader.start()
    server.serve_forever()
    reader.join(TIMEOUT_S)
    assert received == sent
    assert kinds == [ClientSocket]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@pytest.mark.parametrize("reads", [False, True])
def test_who_reads_nothing_is_cut_off_and_who_reads_slowly_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, family: socket.AddressFamily, reads: bool
) -> None:
    monkeypatch.setattr(ClientSocket, "stalled_s", 1.0)
    address: Any = ("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "s")
    listener = gevent.socket.socket(family)
    listener.bind(address)
    listener.listen()
    ends: list[float] = []
    stopping = threading.Event()

    def send(sock: Any, address: object) -> None:
        begun_at = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            while True:
                sock.sendall(b"x" * 2**16)
        ends.append(time.monotonic() - begun_at)
        sock.close()
        server.close()

    def receive() -> None:
        with socket.socket(family) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.connect(listener.getsockname())
            while not stopping.is_set() and not ends:
                if reads and time.monotonic() < begun_at + 4:
                    sock.recv(8000)
                stopping.wait(0.02)

    server = PatientServer(listener, send)
    server.start()
    begun_at = time.monotonic()
    reader = threading.Thread(target=receive)
    reader.start()
    try:
        with gevent.Timeout(TIMEOUT_S):
            server.serve_forever()
    finally:
        stopping.set()
        reader.join(TIMEOUT_S)
    assert len(ends) == 1
    assert (ends[0] > 4) == reads
