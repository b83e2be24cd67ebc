"""Many clients embed a few texts each through the server, against one big SentenceTransformer.encode call.

python -m benchmarks.embeddings

Both have the same texts, the same float32 weights (all-MiniLM-L6-v2 of a test dependency) and the same threads, and run
in turn. The server's time is from the first request's first byte to the last answer's last one, HTTP and JSON included.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files
from tests.live_server import live_server

WORDS = "the quick brown fox jumps over a lazy dog while other animals are sleeping under old trees near the river"
MEDIAN_WORDS = 25


def make_texts(count: int) -> list[str]:
    """Lengths as they are found in real corpora: log-normal, most texts short, a few as long as the model takes."""
    rng = random.Random(0)
    lengths = [min(int(rng.lognormvariate(np.log(MEDIAN_WORDS), 0.9)) + 1, 250) for _ in range(count)]
    return [" ".join(rng.choices(WORDS.split(), k=length)) for length in lengths]


async def request(host: str, port: int, texts: list[str]) -> bytes:
    """One client: the raw answer to one request."""
    body = json.dumps({"model": MINILM, "input": texts}).encode()
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    return answer


async def all_clients(url: str, groups: list[list[str]]) -> list[bytes]:
    """All clients at once, one request each."""
    address = urlsplit(url)
    host, port = str(address.hostname), int(address.port or 0)
    return await asyncio.gather(*(request(host, port, texts) for texts in groups))


def vectors(answers: list[bytes]) -> np.ndarray:
    """The vectors of all answers in the order of the texts. Raises if a client got none."""
    bodies = [json.loads(answer[answer.index(b"\r\n\r\n") + 4 :]) for answer in answers]
    return np.array([vector for body in bodies for vector in body["embeddings"]], dtype=np.float32)


def main() -> None:
    """Print one line a round, the medians and the largest difference between the two results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--texts", type=int, default=4, help="texts of a client")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32, help="of the encode call; 32 is its own default")
    arguments = parser.parse_args()
    texts = make_texts(arguments.clients * arguments.texts)
    groups = [texts[start : start + arguments.texts] for start in range(0, len(texts), arguments.texts)]
    torch.set_num_threads(arguments.threads)
    model = SentenceTransformer(str(minilm_files()), device="cpu", model_kwargs={"dtype": torch.float32})
    longest = model.max_seq_length or sys.maxsize
    lengths = [min(len(ids), longest) for ids in model.tokenizer(texts, verbose=False)["input_ids"]]
    plain: list[float] = []
    served: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "hub"
        add_to_hub_cache(cache, MINILM, minilm_files())
        with live_server(
            Path(folder), cache, num_threads=str(arguments.threads), standby_engine="false", preload=MINILM
        ) as server:
            vectors(asyncio.run(all_clients(server.url, groups)))  # warm up
            model.encode(texts[: len(texts) // 2], show_progress_bar=False)
            for _ in range(arguments.rounds):
                started = time.perf_counter()
                expected = model.encode(
                    texts, batch_size=arguments.batch_size, normalize_embeddings=True, show_progress_bar=False
                )
                plain.append(time.perf_counter() - started)
                started = time.perf_counter()
                answers = asyncio.run(all_clients(server.url, groups))
                served.append(time.perf_counter() - started)
                print(f"encode {plain[-1]:.2f} s, server {served[-1]:.2f} s", flush=True)
    worst = float(np.abs(vectors(answers) - expected).max())
    base, ours = statistics.median(plain), statistics.median(served)
    print(f"{arguments.clients} clients x {arguments.texts} texts, {sum(lengths)} tokens, {max(lengths)} the longest")
    print(f"one encode call, batches of {arguments.batch_size}: {base:.2f} s, {sum(lengths) / base:,.0f} tokens/s")
    print(f"through the server: {ours:.2f} s, {sum(lengths) / ours:,.0f} tokens/s, {base / ours:.2f} times encode")
    print(f"largest difference in a vector: {worst:.1e}")


if __name__ == "__main__":
    main()
