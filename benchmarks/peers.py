"""The servers that are compared: ours, llama.cpp's and transformers' own, started on free ports and stopped by pid."""

import argparse
import asyncio
import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from tests.live_server import free_port, live_server, stop

from benchmarks.bench_model import REPO, Prompt, gguf_path
from benchmarks.client import HOST, Wire, ask, llama_wire, ollama_wire, openai_wire
from benchmarks.in_process import RunWave, stock_generate
from benchmarks.measure import Stream

OURS, LLAMA, SERVE, GENERATE = "hugging-llama", "llama.cpp", "transformers serve", "generate in threads"
START_TIMEOUT_S = 180.0
NUM_SLOTS = 16
GGUF_KIND = {"bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}
"""What llama.cpp runs against each of our kinds of weights."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: where it listens and how it is asked. A RunWave."""

    port: int
    wire: Wire

    def __call__(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Stream]:
        """All prompts at once, one connection each."""

        async def run() -> list[Stream]:
            wire = self.wire
            return await asyncio.gather(
                *(ask(self.port, wire.path, wire.body(prompt, max_tokens), wire.read) for prompt in prompts)
            )

        return asyncio.run(run())


@contextlib.contextmanager
def ours(
    cache: Path,
    weights: str,
    threads: int,
    *,
    repo: str = REPO,
    options: Mapping[str, Any] | None = None,
    **settings: str,
) -> Iterator[Server]:
    """Hugging Llama with `weights` bf16, int8 or int4 of `repo`.

    Raises RuntimeError if the server runs something else.
    """
    settings = {
        "dtype": "bfloat16", "num_threads": str(threads), "keep_alive_s": "-1",
        # one that stands by is idle for good, but gets ready just when the first waves run
        "standby_engine": "false",
    } | settings  # fmt: skip
    if weights != "bf16":
        settings["quantize"] = weights
    with tempfile.TemporaryDirectory() as folder, live_server(Path(folder), cache, None, **settings) as live:
        server = Server(int(live.url.rsplit(":", 1)[1]), ollama_wire(repo, **(options or {})))
        requests.post(f"{live.url}/api/generate", json={"model": repo}, timeout=START_TIMEOUT_S).raise_for_status()
        (row,) = requests.get(f"{live.url}/api/ps", timeout=30).json()["models"]
        level = row["details"]["quantization_level"]
        if weights not in level.lower():
            raise RuntimeError(f"the server runs {level}, not {weights}: it does not know the setting `quantize`")
        yield server


@contextlib.contextmanager
def llama_server(binary: Path, cache: Path, weights: str, threads: int, context_length: int = 2048) -> Iterator[Server]:
    """llama.cpp's server with the kind of weights that stands against `weights`; `context_length` is a slot's.

    Continuous batching is its default; its cache of prompts is off, in the requests and in memory.
    """
    port = free_port()
    command: list[str | Path] = [
        binary, "-m", gguf_path(cache, GGUF_KIND[weights]), "--host", HOST, "--port", str(port),
        "-np", str(NUM_SLOTS), "-c", str(NUM_SLOTS * context_length), "-t", str(threads), "-tb", str(threads),
        "--cache-ram", "0", "--no-webui",
    ]  # fmt: skip
    with _started(command, port):
        yield Server(port, llama_wire())


@contextlib.contextmanager
def transformers_serve(python: Path, snapshot: Path) -> Iterator[Server]:
    """`transformers serve --continuous-batching` of the installation that `python` belongs to.

    Its KV cache is given a size: by default it takes a share of all memory at once. Threads: OMP_NUM_THREADS.
    """
    port = free_port()
    command: list[str | Path] = [
        python, "-m", "transformers.cli.transformers", "serve", snapshot, "--continuous-batching",
        "--host", HOST, "--port", str(port), "--device", "cpu", "--dtype", "bfloat16", "--log-level", "error",
        "--cb-block-size", "32", "--cb-num-blocks", "1024", "--cb-max-batch-tokens", "2048",
    ]  # fmt: skip
    with _started(command, port):
        yield Server(port, openai_wire(str(snapshot)))


@contextlib.contextmanager
def started(
    arguments: argparse.Namespace, snapshot: Path, weights: str, names: Collection[str]
) -> Iterator[dict[str, RunWave]]:
    """Those of the peers `names` that can run `weights` and are there; prints a line for each that is not."""
    starts: dict[str, Callable[[], contextlib.AbstractContextManager[RunWave]]] = {
        OURS: lambda: ours(arguments.cache, weights, arguments.threads),
        LLAMA: lambda: llama_server(arguments.llama_server, arguments.cache, weights, arguments.threads),
    }
    if weights == "bf16":
        starts[SERVE] = lambda: transformers_serve(arguments.serve_python, snapshot)
        starts[GENERATE] = lambda: stock_generate(snapshot, arguments.threads)
    missing = {name for name, path in ((LLAMA, arguments.llama_server), (SERVE, arguments.serve_python)) if not path}
    for name in sorted(missing & starts.keys() & set(names)):
        print(f"{name} is left out: its path was not given")
    wanted = [name for name in starts if name in names and name not in {*missing, *arguments.without}]
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(starts[name]()) for name in wanted}


@contextlib.contextmanager
def _started(command: Sequence[str | Path], port: int) -> Iterator[None]:
    """A server process until the block ends. Raises RuntimeError with its last words if it does not get ready."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            if not _is_ready(process, f"http://{HOST}:{port}/health"):
                log.seek(0)
                raise RuntimeError(f"{command[0]} did not get ready:\n{log.read()[-3000:].decode(errors='replace')}")
            yield
        finally:
            stop(process)


def _is_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        # refused until the port is open
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            if requests.get(url, timeout=5).ok:
                return True
        time.sleep(0.1)
    return False
