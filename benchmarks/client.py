"""A streaming HTTP client that costs little CPU, and the three wires it speaks: Ollama's, llama-server's, OpenAI's.

It shares the cores with the servers it measures, hence plain asyncio streams: no client library, one connection a
request.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bench_model import Prompt
from benchmarks.measure import Stream

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a stream. `num_events` counts output in it; the token counts are there in the last one."""

    text: str = ""
    num_events: int = 0
    num_prompt_tokens: int | None = None
    num_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Wire:
    """How a server is asked for a greedy continuation, and how a line of its answer is read."""

    path: str
    body: Callable[[Prompt, int], Mapping[str, Any]]
    read: Callable[[Mapping[str, Any]], Event]


def _read_ollama(line: Mapping[str, Any]) -> Event:
    text = line.get("response") or (line.get("message") or {}).get("content") or ""
    return Event(text, int(bool(text)), line.get("prompt_eval_count"), line.get("eval_count"))


def _read_llama(line: Mapping[str, Any]) -> Event:
    counts = (line.get("tokens_evaluated"), line.get("tokens_predicted")) if line.get("stop") else (None, None)
    return Event(line.get("content", ""), len(line.get("tokens") or ()), *counts)


def _read_openai(line: Mapping[str, Any]) -> Event:
    text = "".join(choice.get("text") or "" for choice in line.get("choices", ()))
    usage = line.get("usage") or {}
    return Event(text, int(bool(text)), usage.get("prompt_tokens"), usage.get("completion_tokens"))


def ollama_wire(model: str, **options: Any) -> Wire:
    """`/api/generate` without a template. `options` go into the request beside the greedy ones."""

    def body(prompt: Prompt, max_tokens: int) -> Mapping[str, Any]:
        wanted = {"num_predict": max_tokens, "temperature": 0, **options}
        return {"model": model, "prompt": prompt.text, "raw": True, "options": wanted}

    return Wire("/api/generate", body, _read_ollama)


def chat_body(model: str, messages: Sequence[Mapping[str, str]], max_tokens: int) -> Mapping[str, Any]:
    """A request to `/api/chat`, whose lines `ollama_wire(...).read` reads, too."""
    return {"model": model, "messages": messages, "options": {"num_predict": max_tokens, "temperature": 0}}


def llama_wire() -> Wire:
    """llama-server's `/completion` with token ids, without its prompt cache."""

    def body(prompt: Prompt, max_tokens: int) -> Mapping[str, Any]:
        return {
            "prompt": list(prompt.token_ids), "n_predict": max_tokens, "stream": True, "temperature": 0,
            "ignore_eos": True, "cache_prompt": False, "return_tokens": True,
        }  # fmt: skip

    return Wire("/completion", body, _read_llama)


def openai_wire(model: str) -> Wire:
    """`/v1/completions`, which of `transformers serve` takes text only."""

    def body(prompt: Prompt, max_tokens: int) -> Mapping[str, Any]:
        return {"model": model, "prompt": prompt.text, "max_tokens": max_tokens, "stream": True, "temperature": 0}

    return Wire("/v1/completions", body, _read_openai)


async def ask(
    port: int,
    path: str,
    body: Mapping[str, Any],
    read: Callable[[Mapping[str, Any]], Event],
    on_token: Callable[[float], None] | None = None,
) -> Stream:
    """Send one request and read its stream to the end; `on_token` hears the time of each event with output.

    Raises RuntimeError for an error status, an error line or a stream without token counts. Cancelling the task hangs
    up.
    """
    times: list[float] = []
    texts: list[str] = []
    last = Event()
    sent_s = time.perf_counter()
    async for line, at in _lines(port, path, json.dumps(body).encode()):
        if line.get("error"):
            raise RuntimeError(f"{path}: {line['error']}")
        event = read(line)
        texts.append(event.text)
        times += [at] * event.num_events
        if event.num_events and on_token is not None:
            on_token(at)
        last = event if event.num_output_tokens is not None else last
    if last.num_output_tokens is None or last.num_prompt_tokens is None or not times:
        raise RuntimeError(f"{path}: the stream ended without token counts")
    return Stream(
        sent_s=sent_s,
        token_times_s=tuple(times),
        num_prompt_tokens=last.num_prompt_tokens,
        num_output_tokens=last.num_output_tokens,
        text="".join(texts),
    )


async def _lines(port: int, path: str, body: bytes) -> AsyncIterator[tuple[Mapping[str, Any], float]]:
    """The JSON objects of an NDJSON or SSE answer, each with the time when it was there."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        head_lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        status = int(head_lines[0].split()[1])
        pieces = _chunks(reader) if "transfer-encoding: chunked" in head_lines else _rest(reader)
        if status != 200:
            text = b"".join([piece async for piece in pieces])
            raise RuntimeError(f"{path}: {status} {text[:300].decode(errors='replace')}")
        held = b""
        async for piece in pieces:
            at = time.perf_counter()
            *whole, held = (held + piece).split(b"\n")
            for line in whole:
                data = line.removeprefix(b"data:").strip()
                if data and data != b"[DONE]":
                    yield json.loads(data), at
    finally:
        writer.close()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The pieces of a chunked body (RFC 9112, 7.1)."""
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)


async def _rest(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """What comes until the server hangs up."""
    while piece := await reader.read(65536):
        yield piece
