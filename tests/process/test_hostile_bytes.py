"""Bytes that are no requests, and bytes that are nearly ones: at the port and at the engine's socket.

Nobody ends of it, nothing is answered twice, and who streams meanwhile notices nothing.
"""

import contextlib
import hashlib
import random
import re
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import requests

from hugging_llama.ipc import codec
from hugging_llama.ipc import messages as wire
from hugging_llama.ipc.channel import MAX_FRAME_BYTES, FrameReader, frame
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import EmbedRequest, GenerateRequest, LoadRequest, TextPrompt, TokenizeRequest
from tests.live_server import LiveServer, live_server
from tests.process.servers import HERE, wait_until

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", str(HERE / "scripted_gunicorn.py"), "hugging_llama:create_app()"]
DEMO = "hugging-llama/demo"
H = b"Host: localhost\r\n"
SMUGGLED = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/show HTTP/1.1\r\n" + H
JSON = b'{"model":"hugging-llama/demo"}'
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("bytes")
    with live_server(folder, folder / "hub", GUNICORN, log_level="debug") as running:
        yield running


@contextmanager
def undisturbed(server: LiveServer) -> Iterator[None]:
    """The processes stay, streams that run inside the block come whole, and none is left afterwards."""
    before = [*workers(server), engine(server)]
    answers: list[str] = []

    def stream() -> None:
        while not stopping.is_set():
            body = {"model": DEMO, "prompt": "n=20&tick_ms=10", "raw": True}
            answers.append(requests.post(f"{server.url}/api/generate", json=body, timeout=60).text)

    stopping = threading.Event()
    streams = [threading.Thread(target=stream) for _ in range(4)]
    for thread in streams:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in streams:
            thread.join()
    assert answers
    assert all(answer.count("xxxxx") == 20 and '"done":true' in answer for answer in answers)
    assert [*workers(server), engine(server)] == before
    wait_until(lambda: server.figure("running") == 0)
    assert requests.get(f"{server.url}/api/version", timeout=60).ok


def test_a_key_in_a_path_is_in_no_line_of_the_log(server: LiveServer) -> None:
    """gunicorn tells of each request at debug."""
    secret = "hl-" + "s3cret" * 6
    assert requests.get(f"{server.url}/api/{secret}?key={secret}", timeout=60).status_code == 404
    wait_until(lambda: "GET /api/hl-***" in server.log.read_text())
    assert secret not in server.log.read_text()


LONG_BODIES = [b"Content-Length: 1000\r\n\r\n" + JSON, b"Transfer-Encoding: chunked\r\n\r\n100\r\n" + JSON]


@pytest.mark.parametrize("path", ["/api/show", "/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("rest", LONG_BODIES, ids=["length", "chunks"])
def test_a_caller_who_resets_within_a_body_is_gone_and_no_error(server: LiveServer, path: str, rest: bytes) -> None:
    label = f'endpoint="{path}",status="499"'
    before = count(server, label)
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60) as sock:
        sock.sendall(b"POST %s HTTP/1.1\r\n" % path.encode() + H + rest)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: count(server, label) == before + 1)
    assert "Traceback" not in server.log.read_text()


NO_BODIES = [b"Content-Length: 0\r\n\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]


@pytest.mark.parametrize("rest", NO_BODIES, ids=["length", "none", "chunks"])
def test_an_empty_upload_keeps_its_connection(server: LiveServer, rest: bytes) -> None:
    """Whether it is new, here already, or not what its name says."""
    digests = (hashlib.sha256(b"").hexdigest(), hashlib.sha256(b"").hexdigest(), "zz", "0" * 64)
    posts = [b"POST /api/blobs/sha256:%s HTTP/1.1\r\n" % digest.encode() + H + rest for digest in digests]
    found = statuses(talk(server, b"".join(posts) + SMUGGLED))
    assert found[0] in (200, 201)
    assert found[1:] == [200, 400, 400, 200]


def count(server: LiveServer, label: str) -> int:
    """So many requests, as /metrics tells."""
    lines = requests.get(f"{server.url}/metrics", timeout=60).text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if label in line and "requests_total" in line)


def workers(server: LiveServer) -> list[int]:
    return [child.pid for child in psutil.Process(server.process.pid).children()]


def engine(server: LiveServer) -> int:
    """Its pid, as it tells whoever says hello."""
    path, fingerprint = engine_socket(server)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(path)
        sock.sendall(frame(codec.encode_command(wire.Hello(wire.PROTOCOL_VERSION, fingerprint, 1))))
        ((_, reply),) = codec.decode_items(next(FrameReader().feed(sock.recv(65536))))
    assert isinstance(reply, codec.EngineHello)
    return reply.pid


def talk(server: LiveServer, data: bytes, *, timeout_s: float = 60.0) -> bytes:
    """All that comes back until the server closes; our side says that nothing follows."""
    answer = b""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=timeout_s) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while more := sock.recv(65536):
                answer += more
    return answer


def statuses(answer: bytes) -> list[int]:
    """Of all answers on a connection; interim ones apart."""
    # a page that says what is wrong may quote it
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z][^\n]*\r\n", answer) if status != b"100"]


REFUSED: dict[str, bytes] = {
    "a length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "an unknown coding": POST + b"Transfer-Encoding: cow\r\n\r\n" + SMUGGLED,
    "chunked, then identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked behind a tab": POST + b"Transfer-Encoding:\tchunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked with a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}" + SMUGGLED,
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}" + SMUGGLED,
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}" + SMUGGLED,
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}" + SMUGGLED,
    "a length with an underscore": POST + b"Content-Length: 1_0\r\n\r\n0123456789" + SMUGGLED,
    "a length in hexadecimal": POST + b"Content-Length: 0x2\r\n\r\n{}" + SMUGGLED,
    "a space before the colon": POST + b"Content-Length : 2\r\n\r\n{}" + SMUGGLED,
    "a folded header": POST + b"X-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
    "a header without a colon": POST + b"Content-Length\r\n\r\n" + SMUGGLED,
    "a header without a name": POST + b": 1\r\n\r\n" + SMUGGLED,
    "a zero byte in a header": POST + b"X-A: a\0b\r\n\r\n" + SMUGGLED,
    "a bare carriage return": POST + b"X-A: a\rb\r\n\r\n" + SMUGGLED,
    "two hosts": b"GET /api/tags HTTP/1.1\r\n" + H + b"Host: evil.com\r\n\r\n" + SMUGGLED,
    "an old version": b"GET /api/tags HTTP/0.9\r\n\r\n" + SMUGGLED,
    "a version to come": b"GET /api/tags HTTP/3.0\r\n" + H + b"\r\n" + SMUGGLED,
    "no version": b"GET /api/tags\r\n\r\n" + SMUGGLED,
    "no method": b" /api/tags HTTP/1.1\r\n" + H + b"\r\n" + SMUGGLED,
    "a method of signs": b"G(T /api/tags HTTP/1.1\r\n" + H + b"\r\n" + SMUGGLED,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 30,
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "a line of 10 KB": b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + H + b"\r\n" + SMUGGLED,
    "a header of 70 KB": b"GET / HTTP/1.1\r\n" + H + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n" + SMUGGLED,
    "200 headers": b"GET / HTTP/1.1\r\n" + H + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n" + SMUGGLED,
    "a chunk size that is none": CHUNKED + b"xyz\r\n" + SMUGGLED,
    "a negative chunk": CHUNKED + b"-1\r\n" + JSON + b"\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk size with a prefix": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk size with an underscore": CHUNKED + b"1_0\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "an enormous chunk": CHUNKED + b"f" * 40 + b"\r\n" + JSON + b"\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk longer than it says": CHUNKED + b"2\r\n" + JSON + b"\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk without its end": CHUNKED + b"2\r\n{}0\r\n\r\n" + SMUGGLED,
    "a chunk that never comes": CHUNKED + b"ffff\r\n{",
    "a body that never comes": POST + b"Content-Length: 100\r\n\r\n{",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_two_servers_could_read_differently_is_refused(server: LiveServer, kind: str) -> None:
    """One refusal, or none at all; and never an answer to what was hidden behind it."""
    found = statuses(talk(server, REFUSED[kind]))
    assert len(found) <= 1
    assert all(400 <= status < 500 or status in (501, 505) for status in found)


GOOD = (
    SMUGGLED,
    POST + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(JSON) + JSON,
    CHUNKED + b"%x\r\n" % len(JSON) + JSON + b"\r\n0\r\n\r\n",
    CHUNKED + b"%x;a=b\r\n" % (len(JSON) - 1) + JSON[:-1] + b"\r\n1\r\n}\r\n0\r\nX-Trailer: 1\r\n\r\n",
    b"GET /v1/models?a=%41 HTTP/1.1\r\n" + H + b"Origin: http://localhost\r\nAccept: */*\r\n\r\n",
    b"HEAD /api/tags HTTP/1.0\r\nConnection: keep-alive\r\n" + H + b"\r\n" + SMUGGLED,
    b"OPTIONS /api/chat HTTP/1.1\r\nOrigin: http://localhost:3000\r\nAccess-Control-Request-Method: POST\r\n"
    + H
    + b"\r\n",
)
PIECES = (
    b"\r\n",
    b"\n",
    b"\0",
    b": ",
    b"Content-Length: 9\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"\xff\xfe",
)


def mutated(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(GOOD))
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0 if at < len(data):
                data[at] = rng.randrange(256)
            case 1:
                data[at:at] = rng.choice(PIECES)
            case 2:
                del data[at : at + rng.randint(1, 8)]
            case _:
                data[at:at] = data[max(0, at - 30) : at]
    return bytes(data)


def fuzz_port(server: LiveServer, count: int) -> None:
    rng = random.Random(count)
    seen: Counter[int | str] = Counter()
    logged = len(server.log.read_text())
    with undisturbed(server):
        for _ in range(count):
            data = mutated(rng)
            found = statuses(talk(server, data))
            for status in found or ("closed",):
                seen[status] += 1
            assert not {status for status in found if status >= 500} - {501, 505}, data
    print(f"{count} mutated requests: {dict(seen)}")
    assert "Traceback" not in server.log.read_text()[logged:]
    assert len(seen) > 3


def test_the_requests_that_are_mutated_are_good_ones(server: LiveServer) -> None:
    for data in GOOD:
        found = statuses(talk(server, data))
        assert found
        assert max(found) < 400, data


def test_four_hundred_mutated_requests(server: LiveServer) -> None:
    fuzz_port(server, 400)


@pytest.mark.slow
def test_ten_thousand_mutated_requests(server: LiveServer) -> None:
    fuzz_port(server, 10_000)


# the engine's socket

REF = ModelRef(name="m", path="m")
PROMPT = TextPrompt(text="n=3&tick_ms=1")
HELLO_VERSION = wire.PROTOCOL_VERSION
COMMANDS: tuple[wire.Command, ...] = (
    wire.Generate(1, codec.wire_generate(GenerateRequest(model=REF, prompt=PROMPT))),
    wire.Embed(2, EmbedRequest(model=REF, inputs=("a", "b"))),
    wire.Tokenize(3, codec.wire_tokenize(TokenizeRequest(model=REF, prompt=PROMPT))),
    wire.Load(4, LoadRequest(model=REF)),
    wire.Unload(REF),
    wire.Cancel(1),
    wire.AskStatus(5),
    wire.ListLoaded(6),
)


def engine_socket(server: LiveServer) -> tuple[str, str]:
    """The path and the fingerprint in it."""
    (path,) = Path(server.environ["HUGGING_LLAMA_RUN_DIR"]).glob("engine-*.sock")
    return str(path), path.stem.removeprefix("engine-")


def hostile_frames(rng: random.Random, fingerprint: str) -> tuple[str, bytes]:
    """What a connection says, and what kind of lie it is."""
    hello = frame(codec.encode_command(wire.Hello(HELLO_VERSION, fingerprint, 1)))
    good = b"".join(frame(codec.encode_command(command)) for command in rng.choices(COMMANDS, k=3))
    bad = bytearray(codec.encode_command(rng.choice(COMMANDS)))
    for _ in range(rng.randint(1, 3)):
        bad[rng.randrange(len(bad))] = rng.randrange(256)
    kinds = {
        "noise": rng.randbytes(rng.randint(1, 400)),
        "no hello": good,
        "another version": frame(codec.encode_command(wire.Hello(rng.randrange(2**31), fingerprint, 1))) + good,
        "another fingerprint": frame(codec.encode_command(wire.Hello(HELLO_VERSION, rng.randbytes(8).hex(), 1))) + good,
        "a second hello": hello + good + hello,
        "a huge length": hello + good + rng.randint(MAX_FRAME_BYTES + 1, 2**32 - 1).to_bytes(4, "little") + b"x",
        "a long frame that never comes": hello + MAX_FRAME_BYTES.to_bytes(4, "little") + b"x" * 1000,
        "an empty frame": hello + frame(b""),
        "a mutated command": hello + good + frame(bytes(bad)),
        "half a frame": hello + good[: rng.randrange(len(good))],
        "nothing wrong": hello + good,
    }
    return rng.choice(list(kinds.items()))


def say(path: str, data: bytes, rng: random.Random) -> bytes:
    """In pieces, and gone without a word, or after what comes back."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(path)
        answer = b""
        with contextlib.suppress(OSError):
            while data:
                size = rng.randint(1, len(data))
                sock.sendall(data[:size])
                data = data[size:]
            if rng.random() < 0.5:
                sock.shutdown(socket.SHUT_WR)
                while more := sock.recv(65536):
                    answer += more
        return answer


def fuzz_engine(server: LiveServer, count: int) -> None:
    rng = random.Random(count)
    path, fingerprint = engine_socket(server)
    seen: Counter[str] = Counter()
    process = psutil.Process(engine(server))
    fds, rss = process.num_fds(), process.memory_info().rss
    with undisturbed(server):
        for _ in range(count):
            kind, data = hostile_frames(rng, fingerprint)
            say(path, data, rng)
            seen[kind] += 1
    print(f"{count} connections to the engine: {dict(seen)}")
    wait_until(lambda: process.num_fds() <= fds + 2)
    assert process.memory_info().rss - rss < 64 * 2**20


def test_five_hundred_connections_that_lie_to_the_engine(server: LiveServer) -> None:
    fuzz_engine(server, 500)


@pytest.mark.slow
def test_ten_thousand_connections_that_lie_to_the_engine(server: LiveServer) -> None:
    fuzz_engine(server, 10_000)
