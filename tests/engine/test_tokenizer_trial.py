"""A tokenizer is read by a process of its own before the engine reads it: it may hold up, or end, whoever does."""

import contextlib
import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from hugging_llama.engine import tokenizer_trial
from hugging_llama.engine.loader import Loader
from hugging_llama.engine.tokenizer_trial import TokenizerSource, try_tokenizers
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
    with pytest.raises(ModelLoadError, match="the model's tokenizer takes too long to be read"):
        load(large, monkeypatch, LONGEST_S="0.02")
    with pytest.raises(ModelLoadError, match="the model's tokenizer takes too much memory to be read"):
        load(large, monkeypatch, MOST_BYTES=str(2**22))
    load(large, monkeypatch)


def test_tokens_of_other_files_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is written anew by each rule of a normalizer, while no other thread runs."""
    folder = make_checkpoint(tmp_path / "many")
    load(folder, monkeypatch, LONGEST_S="0.5")
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text())
    rules = [{"type": "Replace", "pattern": {"String": f"qzjx{number}"}, "content": ""} for number in range(2_000)]
    file.write_text(json.dumps(values | {"normalizer": {"type": "Sequence", "normalizers": rules}}))
    (folder / "added_tokens.json").write_text(json.dumps({f"some token {number}": number for number in range(20_000)}))
    with pytest.raises(ModelLoadError, match="the model's tokenizer takes too long to be read"):
        load(folder, monkeypatch, LONGEST_S="0.5")


def test_many_are_not_tried(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "many")
    for number in range(8):
        shutil.copy(folder / "tokenizer.json", folder / f"tokenizer.{number}.0.0.json")
    with pytest.raises(ModelLoadError, match="the model has 9 tokenizers; 8 are the most"):
        Loader(Settings(device="cpu", dtype="float32")).load(str(folder))


def test_one_that_can_t_be_tried_out_is_not_read_either(large: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        trial = pool.submit(try_tokenizers, [TokenizerSource(large / "tokenizer.json", ())] * 1_000)
        wait_until(lambda: len(workers()) == 1)
        os.kill(workers()[0], signal.SIGKILL)
        with pytest.raises(ModelLoadError, match="can't be tried out just now"):
            trial.result(60)
    assert not workers()


def test_what_the_library_refuses_is_left_to_the_engine(tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{}")
    try_tokenizers([TokenizerSource(path, ["a"]) for path in (broken, tmp_path / "missing.json")])
    assert not workers()
