"""Many clients rerank a few documents each through the server, against CrossEncoder.predict, one request at a time.

python -m benchmarks.reranking

Both have the same pairs, the same float32 weights (those of all-MiniLM-L6-v2 with a random head: a model of the size of
the usual rerankers) and the same threads, and run in turn. The server's time is from the first request's first byte to
the last answer's last one, HTTP and JSON included; the library gets one call a request, its pairs in one batch.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.hub_cache import add_to_hub_cache, minilm_files
from tests.live_server import live_server

from benchmarks.embeddings import make_texts
from benchmarks.whole_answers import post_all, read_all

NAME = "benchmarks/reranker"
PATH = "/v1/rerank"
QUERY_WORDS = 8


def make_model(folder: Path) -> Path:
    """A cross-encoder of one label in `folder`."""
    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_pretrained(minilm_files(), num_labels=1, dtype=torch.float32)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm_files()).save_pretrained(folder)
    return folder


def make_requests(clients: int, documents: int) -> list[tuple[str, list[str]]]:
    """A query and its documents for each client."""
    texts = make_texts(clients * (documents + 1))
    queries, rest = texts[:clients], texts[clients:]
    return [
        (" ".join(query.split()[:QUERY_WORDS]), rest[start : start + documents])
        for query, start in zip(queries, range(0, len(rest), documents), strict=True)
    ]


def scores(answers: list[bytes], documents: int) -> np.ndarray:
    """The scores of all answers in the order of the pairs. Raises if a client got none."""
    found = np.empty((len(answers), documents), dtype=np.float32)
    for row, answer in enumerate(read_all(answers)):
        for result in answer["results"]:
            found[row, result["index"]] = result["relevance_score"]
    return found.reshape(-1)


def main() -> None:
    """Print one line a round, the medians, their ratio and the largest difference between the two results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--documents", type=int, default=4, help="documents of a client")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    requests = make_requests(arguments.clients, arguments.documents)
    pairs = [[(query, document) for document in documents] for query, documents in requests]
    bodies = [{"model": NAME, "query": query, "documents": documents} for query, documents in requests]
    torch.set_num_threads(arguments.threads)
    plain: list[float] = []
    served: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_model(folder / "model")
        library = CrossEncoder(str(files), device="cpu")
        add_to_hub_cache(folder / "hub", NAME, files)
        with live_server(
            folder, folder / "hub", num_threads=str(arguments.threads), standby_engine="false", preload=NAME
        ) as server:
            scores(post_all(server.url, PATH, bodies), arguments.documents)  # warm up
            library.predict(pairs[0], show_progress_bar=False)
            for _ in range(arguments.rounds):
                started = time.perf_counter()
                rows = [library.predict(group, show_progress_bar=False) for group in pairs]
                plain.append(time.perf_counter() - started)
                started = time.perf_counter()
                answers = post_all(server.url, PATH, bodies)
                served.append(time.perf_counter() - started)
                print(f"predict {plain[-1]:.2f} s, server {served[-1]:.2f} s", flush=True)
    worst = float(np.abs(scores(answers, arguments.documents) - np.concatenate(rows)).max())
    base, ours = statistics.median(plain), statistics.median(served)
    count = arguments.clients * arguments.documents
    num_tokens = sum(answer["usage"]["total_tokens"] for answer in read_all(answers))
    print(f"{arguments.clients} clients x {arguments.documents} documents, {num_tokens} tokens")
    print(f"one predict call a request: {base:.2f} s, {count / base:,.0f} documents/s")
    print(f"through the server: {ours:.2f} s, {count / ours:,.0f} documents/s, {base / ours:.2f} times predict")
    print(f"largest difference in a score: {worst:.1e}")


if __name__ == "__main__":
    main()
