"""A real engine whose memory ends, on the CPU or on a CUDA device: at a load, in a step. It says so, goes on, and has
all of it back."""

import contextlib
import json
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import requests
import torch

from tests.bar import Note, times
from tests.engine.checkpoints import byte_tokenizer, make_checkpoint
from tests.engine.test_embedding_decoders import MODULES
from tests.hub_cache import add_to_hub_cache
from tests.live_server import LiveServer, live_server
from tests.process.servers import wait_until

pytestmark = pytest.mark.slow

SMALL, LARGE, EMBEDDER = "acme/small", "acme/large", "acme/embedder"
MIB = 2**20
LOADS = times(3, 20)


def add_pooling(folder: Path, width: int) -> None:
    """Makes a language model one that embeds."""
    (folder / "modules.json").write_text(json.dumps(MODULES))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": width, "pooling_mode_lasttoken": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


Squeeze = Callable[[int], AbstractContextManager[None]]
"""While it is held the engine gets so many more bytes and no more."""


def on_cuda(name: str) -> Any:
    absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
    return pytest.param(name, marks=[pytest.mark.gpu, absent])


@pytest.fixture(scope="module", params=["cpu", on_cuda("cuda")])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, device: str) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("memory")
    # 64 MiB of keys and values for 16,384 tokens
    small = {"max_position_embeddings": 16384, "head_dim": 64, "num_key_value_heads": 4}
    # some 280 MB, far more than is left below, and what it computes of 16,384 tokens takes as much again
    large = {"max_position_embeddings": 16384, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4}
    for name, sizes in ((SMALL, small), (LARGE, large), (EMBEDDER, large)):
        made = make_checkpoint(folder / name.replace("/", "-"), byte_tokenizer(), **sizes)
        if name == EMBEDDER:
            add_pooling(made, large["hidden_size"])
        add_to_hub_cache(folder / "hub", name, made)
    settings = {"dtype": "float32", "context_length": "16384", "prefix_cache": "false"}
    with live_server(folder, folder / "hub", None, device=device, **settings) as server:
        assert generate(server, SMALL).status_code == 200
        yield server


@pytest.fixture
def squeeze(live: LiveServer, device: str) -> Squeeze:
    return filled_device if device == "cuda" else lambda more_bytes: limited_mappings(live.engine(), more_bytes)


def vms_at_rest(engine: psutil.Process) -> int:
    """What a load gives back a moment later would be room for what must not fit."""
    seen = [engine.memory_info().vms]

    def is_at_rest() -> bool:
        seen.append(engine.memory_info().vms)
        return len(seen) > 200 and len(set(seen[-200:])) == 1  # for a second

    wait_until(is_at_rest, 60)
    return int(seen[-1])


@contextmanager
def limited_mappings(engine: psutil.Process, more_bytes: int) -> Iterator[None]:
    limit = vms_at_rest(engine) + more_bytes
    resource.prlimit(engine.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(engine.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def filled_device(more_bytes: int) -> Iterator[None]:
    """This process takes what else there is, to within 16 MiB, the driver's tables for it included."""
    torch.cuda.init()  # type: ignore[no-untyped-call]
    held: list[torch.Tensor] = []

    def left() -> int:
        return torch.cuda.mem_get_info()[0] - more_bytes

    size = left()
    while size >= 16 * MIB:
        with contextlib.suppress(torch.OutOfMemoryError):
            held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        size = min(size // 2, left())
    try:
        yield
    finally:
        held.clear()
        torch.cuda.empty_cache()


def generate(live: LiveServer, model: str, prompt: str = "x", **options: Any) -> requests.Response:
    body = {"model": model, "prompt": prompt, "raw": True, "stream": False, "options": {"num_predict": 2} | options}
    return requests.post(f"{live.url}/api/generate", json=body, timeout=120)


def embed(live: LiveServer, text: str) -> requests.Response:
    return requests.post(f"{live.url}/api/embed", json={"model": EMBEDDER, "input": text}, timeout=120)


def unload(live: LiveServer, model: str) -> None:
    requests.post(f"{live.url}/api/generate", json={"model": model, "keep_alive": 0}, timeout=60)


def begin_anew(live: LiveServer) -> None:
    """With the small model alone: what an engine keeps of freed memory is room for what must not fit."""
    for model in (SMALL, LARGE, EMBEDDER):
        unload(live, model)
    wait_until(lambda: not requests.get(f"{live.url}/api/ps", timeout=60).json()["models"])
    assert generate(live, SMALL).status_code == 200


def check_recovered(live: LiveServer) -> None:
    assert generate(live, SMALL).status_code == 200
    for name in ("running", "waiting", "kv_used_tokens"):
        wait_until(lambda name=name: live.figure(name) == 0)  # type: ignore[misc]


def test_a_step_that_does_not_fit(live: LiveServer, squeeze: Squeeze) -> None:
    """torch says so and the request ends; oneDNN may take the engine with it (it crashes, or never computes again in
    that thread, which ends the engine), and then a new one serves."""
    # first of all, as memory that a larger model has left would do
    # the keys and values of such a prompt, and of none before, need a slab of their own
    prompt = "a long story " * 1200
    with squeeze(1 * MIB):
        refused = generate(live, SMALL, prompt, num_ctx=16384)
    assert refused.status_code in (500, 503), refused.text[:200]
    assert "memory" in refused.json()["error"] or "engine process ended" in refused.json()["error"]
    check_recovered(live)
    assert generate(live, SMALL, prompt, num_ctx=16384).status_code == 200


def test_a_load_that_does_not_fit(live: LiveServer, squeeze: Squeeze, note: Note) -> None:
    begin_anew(live)
    engine = live.engine()
    open_before = engine.num_fds()
    for _ in range(LOADS):
        with squeeze(48 * MIB):
            refused = generate(live, LARGE)
            assert generate(live, SMALL).status_code == 200
        assert refused.status_code == 500
        assert "memory" in refused.json()["error"]
    check_recovered(live)
    assert live.engine().pid == engine.pid
    wait_until(lambda: engine.num_fds() <= open_before)
    note("OOM on load", LOADS, more="the model that was there before answered each time")
    assert generate(live, LARGE).status_code == 200


def test_an_embedding_that_does_not_fit(live: LiveServer, squeeze: Squeeze) -> None:
    """The engine may end of it as of a step."""
    begin_anew(live)
    assert embed(live, "x").status_code == 200
    with squeeze(16 * MIB):
        refused = embed(live, "a long story " * 1200)
        assert generate(live, SMALL).status_code == 200
    assert refused.status_code in (500, 503), refused.text[:200]
    assert "memory" in refused.json()["error"] or "engine process ended" in refused.json()["error"]
    check_recovered(live)
    assert embed(live, "a long story " * 1200).status_code == 200


def test_what_a_killed_engine_held_is_there_for_the_next_one(live: LiveServer, device: str) -> None:
    if device != "cuda":
        pytest.skip("the kernel gives a process's own memory back before the next one starts")
    begin_anew(live)
    assert generate(live, LARGE, num_ctx=256).status_code == 200
    killed = live.engine()
    # an engine's context alone takes as much, its model is asked for with room for the prompts
    with filled_device(512 * MIB):
        killed.kill()
        psutil.wait_procs([killed], 60)
        wait_until(lambda: requests.get(f"{live.url}/ready", timeout=60).ok)
        assert generate(live, LARGE, num_ctx=256).status_code == 200
    check_recovered(live)


def test_more_sequences_than_the_cache_holds(tmp_path: Path) -> None:
    """They wait and take turns; nobody is lost."""
    sizes = {"max_position_embeddings": 1024}
    add_to_hub_cache(tmp_path / "hub", SMALL, make_checkpoint(tmp_path / "made", byte_tokenizer(), **sizes))
    settings = {"kv_cache_bytes": str(MIB), "dtype": "float32"}
    with live_server(tmp_path, tmp_path / "hub", None, **settings) as live:

        def ask(number: int) -> int:
            return generate(live, SMALL, "y" * (20 * number + 1), num_predict=100, temperature=100.0).status_code

        with ThreadPoolExecutor(24) as pool:
            assert list(pool.map(ask, range(24))) == [200] * 24
        check_recovered(live)
