"""Many clients in one process of its own: `python -m tests.process.crowd`, a Crowd in JSON on standard input.

Prints "all are there" once each client has sent its request, and at the end one line of JSON, Seen.
"""

import asyncio
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from tests.bar import percentile

LINE = b'"created_at"'
PHASES = ("upload", "prefill", "decode")


@dataclass(frozen=True, slots=True)
class Crowd:
    """`kind`: "streams" are read to their end; "leavers" go at a random moment of each of PHASES in turn; "slow" ones
    read a byte a second for `seconds`. `prompt` goes to the scripted engine."""

    port: int
    kind: str
    number: int
    prompt: str
    seconds: float = 0.0


@dataclass(slots=True)
class Seen:
    """`whole` streams had as many lines as they should and the last one said so. Gaps are between their pieces."""

    whole: int = 0
    lines: int = 0
    gap_p50_s: float = 0.0
    gap_p99_s: float = 0.0
    bytes: int = 0
    gaps: list[float] = field(default_factory=list)


def request(prompt: str) -> bytes:
    body = json.dumps({"model": "hugging-llama/demo", "prompt": prompt, "raw": True}).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Reader(asyncio.Protocol):
    """Reads all, and remembers when something came."""

    def __init__(self, seen: Seen) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._seen = seen
        self._at = 0.0
        self._last = b""

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self._at:
            self._seen.gaps.append(now - self._at)
        self._at = now
        # a piece may end within it
        self._seen.lines += (self._last[1 - len(LINE) :] + data).count(LINE)
        self._last = (self._last + data)[-1000:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._seen.whole += b'"done":true' in self._last and self._last.endswith(b"\r\n0\r\n\r\n")
        self.ended.set_result(None)


async def stream(crowd: Crowd, number: int, seen: Seen) -> None:
    loop = asyncio.get_running_loop()
    transport, reader = await loop.create_connection(lambda: Reader(seen), "127.0.0.1", crowd.port)
    transport.write(request(crowd.prompt))
    await reader.ended


async def leave(crowd: Crowd, number: int, seen: Seen) -> None:
    dice = random.Random(number)
    phase = PHASES[number % len(PHASES)]
    reading, writing = await asyncio.open_connection("127.0.0.1", crowd.port)
    whole = request("n=5&prefill_ms=600000" if phase == "prefill" else crowd.prompt)
    writing.write(whole[: dice.randrange(1, len(whole))] if phase == "upload" else whole)
    if phase == "decode":
        begun = await reading.read(100)
        seen.whole += begun.startswith(b"HTTP/1.1 200")
    await asyncio.sleep(dice.uniform(0, 0.5))  # the moment is what varies
    writing.transport.abort() if dice.random() < 0.5 else writing.close()


async def sip(crowd: Crowd, number: int, seen: Seen) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", crowd.port))
    await loop.sock_sendall(sock, request(crowd.prompt))
    end_at = time.monotonic() + crowd.seconds
    while time.monotonic() < end_at and (byte := await loop.sock_recv(sock, 1)):
        seen.bytes += len(byte)
        await asyncio.sleep(1.0)  # how slow it is
    sock.close()


async def all_of(crowd: Crowd) -> Seen:
    seen = Seen()
    one = {"streams": stream, "leavers": leave, "slow": sip}[crowd.kind]
    clients = []
    for number in range(crowd.number):
        clients.append(asyncio.ensure_future(one(crowd, number, seen)))
        await asyncio.sleep(0.002)  # a listening socket has only so many places
    print("all are there", flush=True)
    await asyncio.gather(*clients)
    if seen.gaps:
        seen.gap_p50_s, seen.gap_p99_s = percentile(seen.gaps, 0.5), percentile(seen.gaps, 0.99)
    seen.gaps.clear()
    return seen


class Running:
    """A crowd that is there. `end` waits for it."""

    def __init__(self, process: "subprocess.Popen[str]", output: IO[str]) -> None:
        self.process = process
        self._output = output

    def end(self) -> Seen:
        found: dict[str, Any] = json.loads(self._output.read())
        assert self.process.wait(30) == 0
        return Seen(**found)


@contextmanager
def running(crowd: Crowd) -> Iterator[Running]:
    """A process of that many clients; it is ended with the block."""
    command = [sys.executable, "-m", "tests.process.crowd"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            with process.stdin:
                json.dump(asdict(crowd), process.stdin)
            assert process.stdout.readline() == "all are there\n"
            yield Running(process, process.stdout)
        finally:
            process.kill()


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(all_of(Crowd(**json.load(sys.stdin)))))), flush=True)
