"""What somebody without a key, or with one, tries to take the server away from the others."""

import contextlib
import stat
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.neutral.events import Finished, FinishReason, TextDelta, Usage
from hugging_llama_config.gunicorn_body import MAX_HEAD_BYTES
from hugging_llama_config.gunicorn_worker import MAX_UNREAD_BYTES
from hugging_llama_config.keys import add_key, new_key, revoke_key
from tests.functional.conftest import MakeClient
from tests.live_server import LiveServer
from tests.security.raw import connected, read_to_end, statuses

_LINE = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
_HEADERS = b"".join(b"X-%d: " % number + b"a" * 60_000 + b"\r\n" for number in range(90))

BETWEEN_US_BYTES = 16 * 2**20
"""What the buffers of two sockets may hold."""
LISTS = '{"a":[%s[]]}' % ("[]," * 10_000)
CALLS = [{"id": "x", "type": "function", "function": {"name": "f", "arguments": LISTS}}] * 20

END = Finished(reason=FinishReason.STOP, usage=Usage(num_prompt_tokens=6, num_output_tokens=5))


def test_a_head_of_megabytes_is_refused_when_it_is_too_long(server: LiveServer) -> None:
    """It would be looked through again with each piece that comes: 20 of them kept two workers busy for 90 s."""
    with connected(server) as sock:
        taken = 0
        # no more can lie between us than the buffers of two sockets: what is refused is not read
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(_LINE + _HEADERS), 4096):
                taken += sock.send((_LINE + _HEADERS)[start : start + 4096])
        # the head has no end, and still there is an answer, or a connection that was cut
        found = statuses(read_to_end(sock))
    assert found in ([431], [])
    assert taken < len(_HEADERS) or found == [431]


@pytest.mark.slow
@pytest.mark.parametrize(("line", "status"), [(b"POST /nowhere", 404), (b"GET /api/version", 200)])
def test_a_body_that_nobody_reads_and_that_has_no_end_is_cut_off(server: LiveServer, line: bytes, status: int) -> None:
    """While there was more of it to take, its worker served nobody else: four of them stopped all streams."""
    chunk = b"10000\r\n" + b" " * 2**16 + b"\r\n"
    taken = 0
    with connected(server) as sock:
        sock.sendall(line + b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 %d " % status)
        with contextlib.suppress(ConnectionError):
            while taken < 2 * MAX_UNREAD_BYTES:
                sock.sendall(chunk)
                taken += len(chunk)
    assert taken < MAX_UNREAD_BYTES + BETWEEN_US_BYTES


def test_who_sends_more_than_is_taken_sees_why(server: LiveServer) -> None:
    with connected(server) as sock:
        sock.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n")
        sock.sendall(b" " * 100_000_000)
        assert sock.recv(4096).startswith(b"HTTP/1.1 413 ")
        sock.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert statuses(read_to_end(sock))[-1] == 200, "the connection goes on"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": [[]] * 200_001}),
        ("/api/embed", {"input": [1] * 1_000_001}),
        ("/api/generate", {f"name {number}": 1 for number in range(200_001)}),
        ("/v1/messages", {"messages": [{"a": 1, "b": 2}] * 100_001}),
        ("/v1/chat/completions", {"messages": [{"role": "assistant", "tool_calls": CALLS}]}),
        ("/v1/responses", {"input": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": LISTS}] * 21}),
    ],
)
def test_a_body_of_very_many_values_is_refused(make_client: MakeClient, path: str, body: dict[str, Any]) -> None:
    """Twenty million lists fit into one: a worker that makes them serves nobody else for a minute."""
    client, engine = make_client()
    response = client.post(path, json={"model": "demo"} | body)
    assert (response.status_code, "the request holds too much: it may have" in response.text) == (400, True)
    assert engine.requests == []


def test_a_head_as_browsers_send_it_is_taken(server: LiveServer) -> None:
    cookies = b"Cookie: " + b"a" * 60_000 + b"\r\nX-Other: " + b"b" * 60_000 + b"\r\nConnection: close\r\n\r\n"
    assert len(_LINE + cookies) < MAX_HEAD_BYTES
    with connected(server) as sock:
        sock.sendall(_LINE + cookies)
        assert statuses(read_to_end(sock)) == [200]


def test_no_other_user_can_keep_a_key_from_being_revoked(tmp_path: Path) -> None:
    """Whoever may open a file for reading may lock it, too, and for ever."""
    path, lock = tmp_path / "keys.json", tmp_path / ".keys.json.lock"
    lock.touch(0o644)  # as earlier versions made it
    add_key(str(path), new_key("laptop", roles=("use",))[0])
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    lock.unlink()
    revoke_key(str(path), "laptop")
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600


@pytest.mark.parametrize("was_there", [False, True])
def test_no_other_user_can_lock_the_home(make_client: MakeClient, tmp_path: Path, *, was_there: bool) -> None:
    """Copies, deletions and kept answers wait for these locks, and so does the first write of a new version."""
    home = tmp_path / "locked"
    locks = [home / "models/.lock", home / ".responses.lock", home / ".format.lock"]
    if was_there:  # as earlier versions made them
        locks[0].parent.mkdir(parents=True)
        for lock in locks:
            lock.touch()
            lock.chmod(0o644)
    client, _ = make_client(home=str(home), generate=[TextDelta("Hi"), END])
    assert client.post("/api/copy", json={"source": "demo", "destination": "mine"}).status_code == 200
    assert client.post("/v1/responses", json={"model": "demo", "input": "x"}).status_code == 200
    assert {oct(stat.S_IMODE(lock.stat().st_mode)) for lock in locks} == {"0o600"}
