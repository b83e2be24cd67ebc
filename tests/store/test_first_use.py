"""The first to read a file of each kind are many threads at once."""

import json
import subprocess
import sys
from pathlib import Path

from hugging_llama.store.manifests import Manifest, Manifests, Source, StoredMessage
from tests.store.models import chat_model

_PINNED = "0" * 40


def test_threads_may_be_the_first_to_read_all_kinds_of_files(tmp_path: Path) -> None:
    """Of which the library that reads them learns at its first use."""
    home, folder = tmp_path / "home", tmp_path / "model"
    Manifests(str(home)).write(
        Manifest(
            name="mine",
            source=Source(base="acme/a", commit=_PINNED),
            adapter=Source(base="acme/b", commit=_PINNED),
            messages=(StoredMessage(role="user", content="Hello"),),
            parameters={"temperature": 0.5},
        )
    )
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (folder / name).write_bytes(chat_model()[name])
    command = [sys.executable, "-m", "tests.store.first_use", str(home), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert set(json.loads(done.stdout)) == {0}, done.stderr
