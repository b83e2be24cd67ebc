"""Row "read-only or deleted" of docs/reliability.md: what a server keeps vanishes, or can't be written, while it runs.

Every answer is one with a sentence in it, what needs none of it goes on, and all is well once it is back.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from hugging_llama import create_app
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import load_settings
from tests.bar import Note
from tests.hub_server import Repo, StandInHub
from tests.store import models

DEMO = "hugging-llama/demo"
CONTENT = b"content"
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@dataclass(frozen=True)
class World:
    """A server's application over `<folder>/home` and `<folder>/cache`, with a model in each."""

    client: FlaskClient
    folder: Path

    def all(self) -> dict[str, Any]:
        """The answers to one request of each kind."""
        post, chat = self.client.post, {"messages": [{"role": "user", "content": "x"}]}
        return {
            "version": self.client.get("/api/version"),
            "tags": self.client.get("/api/tags"),
            "demo": post("/api/chat", json={"model": DEMO, "stream": False, **chat}),
            "cached": post("/api/chat", json={"model": "acme/tiny", "stream": False, **chat}),
            "named": post("/api/show", json={"model": "mine"}),
            "upload": post(f"/api/blobs/{DIGEST}", data=CONTENT),
            "create": post("/api/create", json={"model": "other", "from": DEMO, "system": "x", "stream": False}),
            "copy": post("/api/copy", json={"source": DEMO, "destination": "third"}),
            "delete": self.client.delete("/api/delete", json={"model": "third"}),
            "pull": post("/api/pull", json={"model": "acme/more", "stream": False}),
            "responses": post("/v1/responses", json={"model": DEMO, "input": "x"}),
        }


@pytest.fixture
def world(tmp_path: Path, hub: StandInHub) -> World:
    for name in ("acme/tiny", "acme/more"):
        hub.repos[name] = Repo(models.chat_model())
    environ = {
        "HOME": str(tmp_path),
        "HUGGING_LLAMA_HOME": str(tmp_path / "home"),
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HUGGING_LLAMA_RUN_DIR": str(tmp_path / "run"),
        "HF_ENDPOINT": hub.endpoint,
    }
    client = create_app(load_settings(environ=environ), engine=ScriptedEngine()).test_client()
    assert client.post("/api/pull", json={"model": "acme/tiny", "stream": False}).status_code == 200
    assert client.post("/api/copy", json={"source": DEMO, "destination": "mine"}).status_code == 200
    return World(client, tmp_path)


def vanish(path: Path) -> Callable[[], None]:
    kept = path.with_name("kept")
    path.rename(kept)

    def back() -> None:
        shutil.rmtree(path, ignore_errors=True)  # what was made anew meanwhile
        kept.rename(path)

    return back


def become_a_file(path: Path) -> Callable[[], None]:
    kept = path.with_name("kept")
    path.rename(kept)
    path.write_text("no folder")

    def back() -> None:
        path.unlink()
        kept.rename(path)

    return back


def be_read_only(path: Path) -> Callable[[], None]:
    """By a mount: permissions say nothing to root."""
    command = ["mount", "--bind", str(path), str(path)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("can't mount a folder here")
    subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)

    def back() -> None:
        subprocess.run(["umount", "-l", str(path)], check=True)

    return back


@pytest.mark.parametrize("name", ["home", "cache"])
@pytest.mark.parametrize("harm", [vanish, become_a_file, be_read_only])
def test_a_folder_is_lost_and_comes_back(
    world: World, name: str, harm: Callable[[Path], Callable[[], None]], note: Note
) -> None:
    back = harm(world.folder / name)
    try:
        found = world.all()
    finally:
        back()
    for kind, response in found.items():
        if response.status_code >= 400:
            error = response.get_json()["error"]
            said = error["message"] if isinstance(error, dict) else error
            assert said, kind
            assert str(world.folder) not in said, (kind, said)
            assert "Error" not in said, (kind, said)
    assert found["version"].status_code == found["tags"].status_code == found["demo"].status_code == 200
    afterwards = {kind: response.status_code for kind, response in world.all().items()}
    assert set(afterwards.values()) <= {200, 201}, afterwards
    lost = sum(status >= 400 for status in afterwards.values())
    failed = {kind: response.status_code for kind, response in found.items() if response.status_code >= 400}
    note(f"{name}: {harm.__name__}", len(found), lost, more=f"meanwhile {failed or 'all was served'}")
