"""Concurrent streams through the server against one `model.generate` at a time: same weights, same run, in turn.

python benchmarks/throughput.py --cache bench-cache
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import requests
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench_model import REPO, make_model
from tests.live_server import LiveServer, live_server

PROMPT_TOKENS = NEW_TOKENS = 64


def prompt(number: int) -> str:
    """A prompt of exactly PROMPT_TOKENS bytes, so as many tokens; no two are alike."""
    return f"{number:04d} the quick brown fox jumps over the lazy dog and runs away again"[:PROMPT_TOKENS].ljust(
        PROMPT_TOKENS, "."
    )


def generate_rate(model: torch.nn.Module, tokenizer: object, requests_: int) -> float:
    """Tokens a second of plain `generate`, one request after another."""
    started = time.perf_counter()
    for number in range(requests_):
        ids = torch.tensor([tokenizer(prompt(number))["input_ids"]])  # type: ignore[operator]
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False)  # type: ignore[operator]
        assert out.shape[1] == PROMPT_TOKENS + NEW_TOKENS
    return requests_ * NEW_TOKENS / (time.perf_counter() - started)


def server_rate(server: LiveServer, streams: int) -> float:
    """Tokens a second of `streams` clients at once, by the server's own count."""
    counts: list[int] = []

    def stream(number: int) -> None:
        options = {"num_predict": NEW_TOKENS, "temperature": 0}
        body = {"model": REPO, "prompt": prompt(number), "raw": True, "options": options}
        with requests.post(f"{server.url}/api/generate", json=body, stream=True, timeout=600) as response:
            last = json.loads(list(response.iter_lines())[-1])
        assert last["prompt_eval_count"] == PROMPT_TOKENS, last
        counts.append(last["eval_count"])

    threads = [threading.Thread(target=stream, args=(number,)) for number in range(streams)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == streams
    return sum(counts) / (time.perf_counter() - started)


def main() -> None:
    """Print one line a round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("bench-cache"), help="where the random weights are kept")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()
    cache = arguments.cache.absolute()
    snapshot = make_model(cache)
    torch.set_num_threads(os.cpu_count() or 1)
    dtype = getattr(torch, arguments.dtype)
    model = AutoModelForCausalLM.from_pretrained(snapshot, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(snapshot)
    plain: list[float] = []
    served: dict[int, list[float]] = {streams: [] for streams in arguments.streams}
    with (
        tempfile.TemporaryDirectory() as folder,
        live_server(Path(folder), cache, dtype=arguments.dtype, keep_alive_s="-1") as server,
    ):
        server_rate(server, 2)  # load and warm up
        for _ in range(arguments.rounds):
            plain.append(generate_rate(model, tokenizer, 2))
            for streams in arguments.streams:
                served[streams].append(server_rate(server, streams))
            rates = "  ".join(f"{streams} streams {rates[-1]:6.1f}" for streams, rates in served.items())
            print(f"tokens/s: generate {plain[-1]:6.1f}  {rates}", flush=True)
    base = statistics.median(plain)
    for streams, rates in served.items():
        rate = statistics.median(rates)
        print(f"{streams} streams: {rate:.1f} tokens/s, {rate / base:.1f} times one generate at a time ({base:.1f})")


if __name__ == "__main__":
    main()
