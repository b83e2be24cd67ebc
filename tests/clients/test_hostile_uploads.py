"""Damaged files sent to a real server: a model or a sentence, soon, and the same processes go on."""

import contextlib
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import requests

from hugging_llama.store.gguf_header import read_header
from tests.engine.checkpoints import make_checkpoint
from tests.engine.damage import MORE_KEYS, ODD_VALUES, change, mutate, swap_numbers
from tests.gguf_files import make_small, write_gguf
from tests.live_server import LiveServer

TIMEOUT_S = 60.0  # a hang, even on a busy machine
NAME = "damaged"
Files = dict[str, bytes]
Damage = Callable[[Files, random.Random], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a tiny model."""
    folder = make_checkpoint(tmp_path_factory.mktemp("models") / "llama")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gguf")
    return write_gguf(root / "model.gguf", "Q8_0", make_small(root / "source"))


def _processes(server: LiveServer) -> set[int]:
    """The web workers, and the engines, which are nobody's children; conversions and the like come and go."""
    found = {child.pid for child in psutil.Process(server.process.pid).children()}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if "hugging_llama.engine " in command and server.environ["HUGGING_LLAMA_RUN_DIR"] in command:
                found.add(process.pid)
    return found


@pytest.fixture(autouse=True)
def _survives(server: LiveServer) -> Iterator[None]:
    requests.post(f"{server.url}/api/generate", json={"model": "demo"}, timeout=60)
    before = _processes(server)
    yield
    assert len(before) >= 3
    assert before <= _processes(server)


def _post(server: LiveServer, path: str, **body: object) -> str:
    """The error, or "ok"."""
    response = requests.post(f"{server.url}/api/{path}", json={"stream": False, **body}, timeout=TIMEOUT_S)
    if response.ok:
        return "ok"
    error = str(response.json()["error"])
    assert server.environ["HOME"] not in error
    assert "Error" not in error, f"{error} is no sentence for users"
    return error


def _outcome(server: LiveServer, files: Mapping[str, bytes]) -> str:
    """What comes of a creation and of a first word."""
    digests = {}
    for name, content in files.items():
        digests[name] = f"sha256:{hashlib.sha256(content).hexdigest()}"
        requests.post(f"{server.url}/api/blobs/{digests[name]}", data=content, timeout=TIMEOUT_S)
    if (error := _post(server, "create", model=NAME, files=digests)) != "ok":
        return error
    try:
        return _post(server, "generate", model=NAME, prompt="a", options={"num_predict": 2})
    finally:
        assert requests.delete(f"{server.url}/api/delete", json={"model": NAME}, timeout=TIMEOUT_S).ok


def _odd_configuration(files: Files, dice: random.Random) -> None:
    name = dice.choice(["config.json", "config.json", "generation_config.json"])
    content = json.loads(files[name])
    for _ in range(dice.choice([1, 1, 2])):
        content[dice.choice([*content, *MORE_KEYS])] = dice.choice(ODD_VALUES)
    files[name] = json.dumps(content).encode()


def _odd_tokenizer(files: Files, dice: random.Random) -> None:
    name = dice.choice(["tokenizer.json", "tokenizer_config.json"])
    content = json.loads(files[name])
    change(content, dice)
    files[name] = json.dumps(content).encode()


def _odd_weights(files: Files, dice: random.Random) -> None:
    content = bytearray(files["model.safetensors"])
    mutate(content, dice, 8 + int.from_bytes(content[:8], "little"))
    files["model.safetensors"] = bytes(content)


@pytest.mark.parametrize("damage", [_odd_configuration, _odd_tokenizer, _odd_weights])
@pytest.mark.parametrize(("seed", "count"), [(1, 6), pytest.param(2, 150, marks=pytest.mark.slow)])
def test_files_of_a_model(server: LiveServer, whole: Files, damage: Damage, seed: int, count: int) -> None:
    dice = random.Random(seed)
    outcomes = {_outcome(server, whole)}
    assert outcomes == {"ok"}
    for _ in range(count):
        files = dict(whole)
        damage(files, dice)
        outcomes.add(_outcome(server, files))
    assert len(outcomes) > 1


@pytest.mark.parametrize(("seed", "count"), [(1, 4), pytest.param(2, 40, marks=pytest.mark.slow)])
def test_a_gguf_file(server: LiveServer, gguf_file: Path, seed: int, count: int) -> None:
    whole = gguf_file.read_bytes()
    header_bytes = min(tensor.offset for tensor in read_header(str(gguf_file)).tensors)
    dice = random.Random(seed)
    outcomes = set()
    for number in range(count):
        content = bytearray(whole)
        (mutate if number % 2 else swap_numbers)(content, dice, header_bytes)
        outcomes.add(_outcome(server, {"model.gguf": bytes(content)}))
    assert outcomes - {"ok"}
