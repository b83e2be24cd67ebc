"""Clients that send one request each, all at once, and read answers in one piece."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit


def post_all(url: str, path: str, bodies: Sequence[Any]) -> list[bytes]:
    """The raw answers, in the order of the bodies."""
    address = urlsplit(url)
    host, port = str(address.hostname), int(address.port or 0)

    async def everybody() -> list[bytes]:
        return await asyncio.gather(*(_post(host, port, path, json.dumps(body).encode()) for body in bodies))

    return asyncio.run(everybody())


def read_all(answers: Sequence[bytes]) -> list[Any]:
    """The values in answers. Raises if one is no success."""
    for answer in answers:
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(answer[:500].decode("utf-8", "replace"))
    return [json.loads(answer[answer.index(b"\r\n\r\n") + 4 :]) for answer in answers]


async def _post(host: str, port: int, path: str, body: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    return answer
