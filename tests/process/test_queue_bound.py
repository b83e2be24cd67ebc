"""Row "queue" of docs/reliability.md: more requests than one place and its queue can take, on the real engine."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.bar import WHOLE, Note, times
from tests.engine.checkpoints import byte_tokenizer, make_checkpoint
from tests.hub_cache import add_to_hub_cache
from tests.live_server import LiveServer, live_server
from tests.process.servers import wait_until

pytestmark = pytest.mark.slow

QUEUE = times(16, 64)
REFUSED = times(60, 435)
REFUSED_WITHIN_S = 0.1
MODEL = "acme/long"
LONG = 65536
"""Tokens that such a model writes, which takes it minutes."""
LASTING = {"num_predict": LONG, "min_new_tokens": LONG}
ENDLESS = {"temperature": 100.0, "top_k": 0, "top_p": 1.0}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One worker, so that requests reach the engine in the order in which they are sent."""
    folder = tmp_path_factory.mktemp("queue")
    made = make_checkpoint(folder / "made", byte_tokenizer(), max_position_embeddings=LONG)
    add_to_hub_cache(folder / "hub", MODEL, made)
    settings = {"workers": "1", "max_num_seqs": "1", "max_queue": str(QUEUE), "context_length": str(LONG)}
    with live_server(folder, folder / "hub", None, **settings) as server:
        assert post(server, num_predict=1).ok
        yield server


def post(live: LiveServer, **options: Any) -> requests.Response:
    body = {"model": MODEL, "prompt": "x", "raw": True, "stream": False, "options": ENDLESS | options}
    return requests.post(f"{live.url}/api/generate", json=body, timeout=120)


def test_a_full_queue_refuses_at_once_and_serves_the_others_in_order(live: LiveServer, note: Note) -> None:
    served: list[tuple[str, int]] = []

    def ask(number: int, num_predict: int) -> None:
        answer = post(live, num_predict=num_predict)
        if answer.ok:
            # as the server tells it: which thread of this process wakes first is chance
            served.append((answer.json()["created_at"].rstrip("Z").ljust(29, "0"), number))

    def send(number: int, num_predict: int) -> threading.Thread:
        thread = threading.Thread(target=ask, args=(number, num_predict))
        thread.start()
        return thread

    body = {"model": MODEL, "prompt": "x", "raw": True, "options": ENDLESS | LASTING}
    with requests.post(f"{live.url}/api/generate", json=body, stream=True, timeout=120) as first:
        lines = first.iter_lines(chunk_size=1)  # which closes the connection when it is forgotten
        assert next(lines)
        threads = []
        for number in range(QUEUE):
            threads.append(send(number, 8))
            wait_until(lambda number=number: live.figure("waiting") == number + 1, 30)  # type: ignore[misc]
        with ThreadPoolExecutor(8) as pool:
            refused = list(pool.map(lambda _: refuse(live), range(REFUSED)))
        assert live.figure("waiting") == QUEUE
    for thread in threads:
        thread.join(120)
    assert [number for _, number in sorted(served)] == list(range(QUEUE))
    worst_s = max(refused)
    more = f"{QUEUE} waited and were served in order; the others refused within {worst_s * 1000:.0f} ms"
    note("queue", QUEUE + REFUSED, more=more)
    if WHOLE:
        assert sorted(refused)[int(len(refused) * 0.99)] < REFUSED_WITHIN_S
    wait_until(lambda: live.figure("running") + live.figure("waiting") == 0)


def refuse(live: LiveServer) -> float:
    started_at = time.monotonic()
    refused = post(live, num_predict=1)
    took_s = time.monotonic() - started_at
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert "busy" in refused.json()["error"]
    return took_s
