"""Many clients stream at once while /health is polled, with the bundled demo model.

python -m benchmarks.streams --streams 64
"""

import argparse
import asyncio
import http.client
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tests.live_server import live_server

POLL_S = 0.01


async def stream(host: str, port: int, number: int, max_tokens: int) -> dict[str, int]:
    """One client; returns the final object. Raises if the stream does not end with one."""
    options = {"num_predict": max_tokens, "temperature": 1, "seed": number, "stop": []}
    body = json.dumps({"model": "demo", "prompt": f"Once upon a time {number}", "raw": True, "options": options})
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write((head + body).encode())
    data = await reader.read()
    writer.close()
    last = next(line for line in reversed(data.split(b"\n")) if line.startswith(b"{"))
    final: dict[str, int] = json.loads(last)
    assert final.get("done"), final
    return final


def poll_health(
    host: str, port: int, stop: "multiprocessing.synchronize.Event", sink: "multiprocessing.Queue[list[float]]"
) -> None:
    """Ask /health on one connection every POLL_S; puts the answer times in milliseconds into `sink` at the end."""
    times: list[float] = []
    connection = http.client.HTTPConnection(host, port, timeout=30)
    while not stop.is_set():
        started = time.perf_counter()
        connection.request("GET", "/health")
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        times.append((time.perf_counter() - started) * 1000)
        time.sleep(POLL_S)
    sink.put(times)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


async def all_streams(host: str, port: int, streams: int, max_tokens: int) -> list[dict[str, int]]:
    """All clients at once."""
    return await asyncio.gather(*(stream(host, port, number, max_tokens) for number in range(streams)))


def main() -> None:
    """Print the answer times of /health and the batch sizes that the engine counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, live_server(Path(folder), Path(folder) / "hub") as server:
        address = urlsplit(server.url)
        host, port = str(address.hostname), int(address.port or 0)
        asyncio.run(all_streams(host, port, 2, 4))
        stop = multiprocessing.Event()
        sink: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
        poller = multiprocessing.Process(target=poll_health, args=(host, port, stop, sink), daemon=True)
        poller.start()
        started = time.perf_counter()
        finals = asyncio.run(all_streams(host, port, arguments.streams, arguments.max_tokens))
        seconds = time.perf_counter() - started
        stop.set()
        times = sink.get()
        poller.join()
        tokens = sum(final["eval_count"] for final in finals)
        print(f"{arguments.streams} streams, {tokens} tokens in {seconds:.1f} s: {tokens / seconds:.0f} tokens/s")
        print(
            f"/health, {len(times)} times: p50 {statistics.median(times):.2f} ms, "
            f"p99 {percentile(times, 0.99):.2f} ms, max {max(times):.2f} ms"
        )
        for line in requests.get(f"{server.url}/metrics", timeout=10).text.splitlines():
            if line.startswith(("hugging_llama_engine_max_batch", "hugging_llama_engine_step")):
                print(line)


if __name__ == "__main__":
    main()
