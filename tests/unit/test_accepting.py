"""The sockets of a worker's clients."""

import socket
import threading
from typing import Any

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
