"""A tokenizer is read by a process of its own before the engine reads it: it may hold up, or end, whoever does."""

import contextlib
import json
import os
import signal
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from hugging_llama.engine import tokenizer_trial
from hugging_llama.engine.loader import Loader
from hugging_llama.engine.tokenizer_trial import TokenizerTrial
from hugging_llama.errors import ModelLoadError
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import make_checkpoint
from tests.process.servers import wait_until

ROOT = Path(__file__).parents[2]
NO_LIMIT = {"LONGEST_S": "60", "MOST_BYTES": str(2**33)}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with 200,000 more tokens than it needs."""
    folder = make_checkpoint(tmp_path_factory.mktemp("models") / "large")
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text())
    vocab = values["model"]["vocab"]
    vocab |= {f"more{number}": len(vocab) + number for number in range(200_000)}
    file.write_text(json.dumps(values))
    return folder


def workers() -> list[int]:
    """Pids of those that have begun."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "hugging_llama.engine.tokenizer_worker" in child.cmdline():
                found.append(child.pid)
    return found


def load(folder: Path, monkeypatch: pytest.MonkeyPatch, **limits: str) -> None:
    monkeypatch.setattr(tokenizer_trial, "_WORKER", "tests.engine.hasty_tokenizer_worker")
    for name, value in (NO_LIMIT | limits | {"PYTHONPATH": str(ROOT)}).items():
        monkeypatch.setenv(name, value)
    Loader(Settings(device="cpu", dtype="float32")).load(str(folder))


def test_what_takes_too_long_or_too_much_is_not_read(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelLoadError, match=r"the model's tokenizer.json takes too long to be read"):
        load(large, monkeypatch, LONGEST_S="0.02")
    with pytest.raises(ModelLoadError, match=r"the model's tokenizer.json takes too much memory to be read"):
        load(large, monkeypatch, MOST_BYTES=str(2**22))
    load(large, monkeypatch)


def test_one_that_can_t_be_tried_out_is_not_read_either(large: Path) -> None:
    with TokenizerTrial([large / "tokenizer.json"] * 1_000) as trial:
        wait_until(lambda: len(workers()) == 1)
        os.kill(workers()[0], signal.SIGKILL)
        with pytest.raises(ModelLoadError, match="can't be tried out just now"):
            trial.check()


def test_what_the_library_refuses_is_left_to_the_engine(tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{}")
    with TokenizerTrial([broken, tmp_path / "missing.json"]) as trial:
        trial.check()


def test_it_ends_with_its_load(large: Path) -> None:
    with TokenizerTrial([large / "tokenizer.json"] * 1_000):
        wait_until(lambda: len(workers()) == 1)
    assert not workers()
