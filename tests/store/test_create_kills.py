"""A creation that is killed at any call that changes the disk: nothing half-made is a model, the next succeeds."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from hugging_llama.store.blobs import Blobs
from hugging_llama.store.local import Store
from hugging_llama_config.settings import Settings
from tests.store import models

KEPT = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")

_KILLED = """
import json, os, signal, sys
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.library import NewModel, create_model
from hugging_llama.operations.observer import Unobserved
from hugging_llama.store.local import Store
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.settings import Settings

home, files, left = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
settings = Settings(home=home)
ctx = AppContext(settings=settings, store=Store(settings), engine=ScriptedEngine(), observer=Unobserved())

def counted(call):
    def wrapped(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped
for name in ("open", "write", "utime", "fsync", "replace", "rename", "mkdir", "makedirs", "symlink"):
    setattr(os, name, counted(getattr(os, name)))
list(create_model(ctx, NewModel(name="mine", files=files, system=sys.argv[3])))
"""


def test_kills_all_over_a_creation(tmp_path: Path) -> None:
    home = tmp_path / "home"
    contents = models.chat_model()
    files = {path: hashlib.sha256(contents[path]).hexdigest() for path in KEPT}
    for path, digest in files.items():
        pieces = iter((contents[path], b""))
        Blobs(str(home)).receive(digest, lambda size, pieces=pieces: next(pieces))  # type: ignore[misc]
    done = 0
    seen = set()
    for point in range(0, 80, 8):
        command = [sys.executable, "-c", _KILLED, str(home), json.dumps(files), str(point)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        store = Store(Settings(home=str(home)))
        found = [model for model in store.list() if model.is_named]
        seen.add(len(found))
        for model in found:
            assert model.size_bytes == sum(len(contents[path]) for path in KEPT)
            assert {path.name for path in Path(model.ref.path).iterdir()} == set(KEPT)
            assert all((Path(model.ref.path) / path).read_bytes() == contents[path] for path in KEPT)
        if run.returncode == 0:
            done = point
            assert found[0].defaults.system == str(point)
            break
        assert run.returncode == -signal.SIGKILL, run.stderr
    assert done > 10, "it was killed in between"
    assert seen == {0, 1}
    assert [name for name in os.listdir(home / "models") if not name.startswith(".")] == ["mine--latest.json"]
