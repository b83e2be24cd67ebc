"""Many clients embed a few texts each through the server, against one big SentenceTransformer.encode call.

python -m benchmarks.embeddings

Both have the same texts, the same float32 weights (all-MiniLM-L6-v2 of a test dependency) and the same threads, and run
in turn. The server's time is from the first request's first byte to the last answer's last one, HTTP and JSON included.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files
from tests.live_server import live_server

from benchmarks.whole_answers import post_all, read_all

WORDS = "the quick brown fox jumps over a lazy dog while other animals are sleeping under old trees near the river"
MEDIAN_WORDS = 25
PATH = "/api/embed"


def make_texts(count: int) -> list[str]:
    """Lengths as they are found in real corpora: log-normal, most texts short, a few as long as the model takes."""
    rng = random.Random(0)
    lengths = [min(int(rng.lognormvariate(np.log(MEDIAN_WORDS), 0.9)) + 1, 250) for _ in range(count)]
    return [" ".join(rng.choices(WORDS.split(), k=length)) for length in lengths]


def request_bodies(groups: list[list[str]]) -> list[dict[str, object]]:
    """One request a client."""
    return [{"model": MINILM, "input": texts} for texts in groups]


def vectors(answers: list[bytes]) -> np.ndarray:
    """The vectors of all answers in the order of the texts. Raises if a client got none."""
    return np.array([vector for body in read_all(answers) for vector in body["embeddings"]], dtype=np.float32)


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
            bodies = request_bodies(groups)
            vectors(post_all(server.url, PATH, bodies))  # warm up
            model.encode(texts[: len(texts) // 2], show_progress_bar=False)
            for _ in range(arguments.rounds):
                started = time.perf_counter()
                expected = model.encode(
                    texts, batch_size=arguments.batch_size, normalize_embeddings=True, show_progress_bar=False
                )
                plain.append(time.perf_counter() - started)
                started = time.perf_counter()
                answers = post_all(server.url, PATH, bodies)
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
