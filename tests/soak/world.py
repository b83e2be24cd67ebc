"""What the clients of a soak find: a server, its models, and a Hub with more of them."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.engine.checkpoints import byte_tokenizer, make_checkpoint
from tests.engine.classifier_files import make_cross_encoder
from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files
from tests.hub_server import Repo, StandInHub
from tests.live_server import LiveServer, live_server
from tests.soak.memory import processes_of
from tests.store import models

DEMO = "hugging-llama/demo"
CHAT = (DEMO, "acme/one", "acme/two")
EMBEDDING = MINILM
RERANKER = "acme/reranker"
PULLED = tuple(f"acme/pulled-{number}" for number in range(6))
WEIGHT_BYTES = 3_000_000


@dataclass(frozen=True, slots=True)
class World:
    """`folder` is the home of all processes of the server, `temporary` where they put temporary files."""

    server: LiveServer
    folder: Path
    hub_cache: Path
    temporary: Path

    @property
    def port(self) -> int:
        return int(self.server.url.rpartition(":")[2])

    def processes(self) -> list[psutil.Process]:
        """All that this server has started and that still live, whoever their parent is now."""
        return processes_of(str(self.folder))

    def by_role(self) -> dict[str, list[psutil.Process]]:
        """The processes by what they are: master, worker, supervisor, engine, template, standby, pull, other."""
        roles: dict[str, list[psutil.Process]] = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                roles.setdefault(self._role(process), []).append(process)
        return roles

    def _role(self, process: psutil.Process) -> str:
        command = process.cmdline()
        if process.pid == self.server.process.pid:
            return "master"
        if process.ppid() == self.server.process.pid and "hugging_llama.store.pull_process" not in command:
            return "worker"
        if "hugging_llama.client.supervisor" in command:
            return "supervisor"
        if "hugging_llama.store.pull_process" in command:
            return "pull"
        if "hugging_llama.engine.template_worker" in command:
            return "template"
        if "hugging_llama.engine" in command[1:4]:
            run_dir = self.server.environ["HUGGING_LLAMA_RUN_DIR"]
            serves = any(run_dir in str(connection.laddr) for connection in process.net_connections("unix"))
            return "engine" if serves else "standby"
        return "other"

    def leftovers(self) -> list[str]:
        """Files that only somebody at work may have."""
        found = [str(path) for path in self.temporary.rglob("*")]
        for root in (self.hub_cache, self.folder / ".cache"):
            found += [str(path) for path in root.rglob("*") if path.suffix in (".part", ".tmp", ".incomplete")]
        return found


@contextmanager
def world() -> Iterator[World]:
    """A server with two workers until the block ends."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name, StandInHub() as hub:
        folder = Path(name)
        temporary = folder / "tmp"
        temporary.mkdir()
        cache = folder / "hub"
        add_to_hub_cache(cache, MINILM, minilm_files())
        for number, model in enumerate(CHAT[1:]):
            sizes = {"hidden_size": 32 * (number + 1), "max_position_embeddings": 4096}
            add_to_hub_cache(cache, model, make_checkpoint(folder / f"made-{number}", byte_tokenizer(), **sizes))
        add_to_hub_cache(cache, RERANKER, make_cross_encoder(folder / "reranker"))
        for number, model in enumerate(PULLED):
            hub.repos[model] = Repo(models.chat_model(WEIGHT_BYTES, seed=number))
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(temporary)  # of the processes to come: this one has chosen its own already
        try:
            memory = {"kv_cache_bytes": "33554432", "max_loaded_models": "6", "standby_engine": "true"}
            with live_server(folder, cache, None, hub_endpoint=hub.endpoint, log_level="warning", **memory) as server:
                yield World(server, folder, cache, temporary)
        finally:
            del os.environ["TMPDIR"]
            if before is not None:
                os.environ["TMPDIR"] = before
