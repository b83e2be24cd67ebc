"""A client that leaves is noticed at once, whatever its request is doing, and the engine stops working for it."""

import pytest

from tests.process.servers import Server, wait_until

# a token in ten minutes: nothing is written that could fail, so that only the watch can notice within a minute
DECODE = "/gen?n=5&tick_ms=600000"
PREFILL = "/gen?n=5&prefill_ms=600000"


def come_and_leave(server: Server, path: str, *, reset: bool = False) -> None:
    """Until the engine runs nothing."""
    client = server.open(path)
    if path == DECODE:
        client.read_until(b"xxxxx")
    wait_until(lambda: server.status()["num_running"] == 1)
    client.leave(reset=reset)
    wait_until(lambda: server.status()["num_running"] == 0)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("path", [DECODE, PREFILL, PREFILL + "&stream=false"], ids=["decode", "prefill", "unstreamed"])
def test_a_client_that_leaves_is_noticed_at_once(any_server: Server, path: str, reset: bool) -> None:
    for _ in range(2):
        come_and_leave(any_server, path, reset=reset)


def test_a_client_that_sends_its_next_request_early_is_served(any_server: Server) -> None:
    server = any_server
    client = server.open("/gen?n=3&tick_ms=50")
    client.sock.sendall(b"GET /gen?n=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    client.read_until(b'"done_reason":"stop"')
    client.leave()


def test_nothing_is_left_behind(any_server: Server) -> None:
    server = any_server

    def descriptors() -> dict[int, int]:
        # of both workers: which one answers is chance
        seen = [server.status() for _ in range(20)]
        return {one["worker"]: one["fds"] for one in seen}

    def come_and_go() -> None:
        clients = [server.open(DECODE) for _ in range(20)]
        for client in clients:
            client.read_until(b"xxxxx")
            client.leave()
        wait_until(lambda: server.status()["num_running"] == 0)

    come_and_go()
    before = descriptors()
    for _ in range(3):
        come_and_go()
    wait_until(lambda: all(fds <= before.get(worker, fds) + 2 for worker, fds in descriptors().items()))
