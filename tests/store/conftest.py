"""A stand-in Hub, an empty cache and what is needed to pull from one into the other."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.local import Store
from hugging_llama.store.names import parse_name
from hugging_llama.store.pull import PullRequest, pull_files
from hugging_llama.store.retry import RetryPolicy
from hugging_llama_config.settings import Settings
from tests.hub_server import StandInHub

QUICK = RetryPolicy(
    attempts=4, connect_attempts=2, first_wait_s=0.02, max_wait_s=0.1, connect_timeout_s=60.0, read_timeout_s=120.0
)
"""Tries again soon, and takes no slow machine for a Hub that says nothing: see IMPATIENT."""
IMPATIENT = dataclasses.replace(QUICK, attempts=10, read_timeout_s=0.5)
"""For a Hub that does say nothing; what it does say may be late a few times."""


@dataclass
class Workplace:
    """One cache and the Hub it is filled from."""

    hub: StandInHub
    cache: Path
    token: str = ""

    @property
    def settings(self) -> Settings:
        return Settings(hub_cache=str(self.cache), hub_endpoint=self.hub.endpoint, hub_token=self.token)

    @property
    def store(self) -> Store:
        return Store(self.settings)

    def request(self, name: str, **fields: Any) -> PullRequest:
        """`fields` are those of the request."""
        access = HubAccess(endpoint=self.hub.endpoint, token=self.token)
        plain = PullRequest(name=parse_name(name), cache=str(self.cache), access=access, policy=QUICK)
        return dataclasses.replace(plain, **fields)

    def pull(self, name: str, **fields: Any) -> list[TransferProgress]:
        """A whole pull in this process."""
        return list(pull_files(self.request(name, **fields)))

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """What the cache shows of a revision."""
        root = self.cache / f"models--{repo.replace('/', '--')}"
        snapshot = root / "snapshots" / (root / "refs" / revision).read_text()
        return {str(path.relative_to(snapshot)): path.read_bytes() for path in snapshot.rglob("*") if path.is_file()}

    def refs(self) -> list[Path]:
        return [path for path in self.cache.rglob("refs/**/*") if path.is_file() and path.name[0] != "."]

    def parts(self) -> list[Path]:
        return list(self.cache.rglob("*.part"))


@pytest.fixture(autouse=True)
def _power_stays_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is most of the time of these tests, and proves nothing in them."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture
def work(hub: StandInHub, tmp_path: Path) -> Workplace:
    cache = tmp_path / "cache"
    cache.mkdir()
    return Workplace(hub, cache)


@pytest.fixture
def tree_outside(tmp_path: Path) -> Callable[[], set[Path]]:
    """All that lies beside the cache; what a hostile Hub must not change."""

    def look() -> set[Path]:
        cache = tmp_path / "cache"
        return {path for path in tmp_path.rglob("*") if cache not in (path, *path.parents)}

    return look
