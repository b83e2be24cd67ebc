"""Two servers over one home and one cache, many threads each: every answer is one, and what is left makes sense."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hugging_llama import create_app
from hugging_llama.store.layout import RepoFolder
from hugging_llama.store.local import Store
from hugging_llama.testing import ScriptedEngine
from tests.functional.library_racer import DEMO, HUB_NAMES, NAMES, race_settings
from tests.hub_server import Repo, StandInHub
from tests.store.models import chat_model


def _race(folder: Path, threads: int, rounds: int) -> None:
    with StandInHub() as hub:
        for number, name in enumerate(HUB_NAMES):
            hub.repos[name] = Repo(chat_model(seed=number))
        python = [sys.executable, "-X", "faulthandler"]
        command = [*python, "-m", "tests.functional.library_racer", str(folder), hub.endpoint]
        servers = [
            subprocess.Popen([*command, str(seed), str(threads), str(rounds)], stdout=subprocess.PIPE, text=True)
            for seed in range(2)
        ]
        outputs = [server.communicate(timeout=500)[0] for server in servers]
        assert [server.returncode for server in servers] == [0, 0]
        seen: Counter[str] = Counter()
        for output in outputs:
            found = json.loads(output)
            assert found["wrong"] == []
            seen.update(found["seen"])
        assert {
            "copy 200",
            "delete 200",
            "create 200",
            "show 200",
            "tags 200",
            "generate 200",
            "pull done",
        } <= seen.keys()
        _check_what_is_left(folder, hub.endpoint)


def _check_what_is_left(folder: Path, hub: str) -> None:
    settings = race_settings(folder, hub)
    client = create_app(settings, engine=ScriptedEngine()).test_client()
    # a model that was made anew from something else leaves what it was made from to the next deletion
    client.post("/api/copy", json={"source": DEMO, "destination": "last"})
    assert client.delete("/api/delete", json={"model": "last"}).status_code == 200
    listed = [model["name"] for model in client.get("/api/tags").get_json()["models"]]
    assert len(listed) == len(set(listed))
    # a create whose base had lost its commit has pulled that one again, under its own name
    named = {re.sub(r":[0-9a-f]{40}$", "", name.lower()).removesuffix(":latest") for name in listed}
    assert named <= {name.lower() for name in (*NAMES, DEMO)}
    for name in listed:
        assert client.post("/api/show", json={"model": name}).status_code == 200
    models = folder / "home" / "models"
    assert all(entry.endswith((".json", ".lock")) for entry in os.listdir(models)), "nothing is half gone"
    for name in HUB_NAMES:
        repo = RepoFolder(settings.hub_cache, name)
        snapshots = Path(repo.snapshots)
        if not snapshots.exists():
            continue
        pinned = Store(settings).pinned_commits(name)
        for path in snapshots.iterdir():
            assert path.name in pinned or any(Path(repo.ref(name)).exists() for name in ("main", path.name))
        linked = {path.resolve().name for path in snapshots.glob("*/*")}
        assert linked == set(os.listdir(repo.blobs)), "neither a content too few nor too many"


def test_a_short_race_of_two_servers(tmp_path: Path) -> None:
    _race(tmp_path, threads=10, rounds=12)


@pytest.mark.slow
def test_a_long_race_of_two_servers(tmp_path: Path) -> None:
    _race(tmp_path, threads=10, rounds=150)
