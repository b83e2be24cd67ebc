"""A stream that runs in the background of a measurement."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from benchmarks.bench_model import Prompt
from benchmarks.client import ask
from benchmarks.peers import Server


@contextlib.asynccontextmanager
async def running_stream(server: Server, prompt: Prompt, max_tokens: int) -> AsyncIterator[list[float]]:
    """Yields after the first token the growing list of token times; hangs up at the end of the block.

    Raises RuntimeError if the stream has ended before the block has, or has failed.
    """
    times_s: list[float] = []
    begun = asyncio.Event()

    def on_token(at: float) -> None:
        times_s.append(at)
        begun.set()

    body = server.wire.body(prompt, max_tokens)
    stream = asyncio.create_task(ask(server.port, server.wire.path, body, server.wire.read, on_token))
    beginning = asyncio.create_task(begun.wait())
    try:
        await asyncio.wait((stream, beginning), return_when=asyncio.FIRST_COMPLETED)
        if not stream.done():
            yield times_s
        if stream.done():
            stream.result()
            raise RuntimeError("the background stream was too short for the measurement")
    finally:
        beginning.cancel()
        stream.cancel()
        with contextlib.suppress(asyncio.CancelledError, RuntimeError):
            await stream
