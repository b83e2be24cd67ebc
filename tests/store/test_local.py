"""The models on disk: what is listed, what a name means, and that it is quick."""

import builtins
import contextlib
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.errors import InvalidRequestError, ModelNotFoundError
from hugging_llama.store.facts import FolderFacts
from hugging_llama.store.local import Store
from hugging_llama_config.settings import Settings
from tests.hub_cache import add_to_hub_cache, minilm_files
from tests.store import models
from tests.store.models import chat_model

DEMO = "hugging-llama/demo:latest"


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def store(cache: Path) -> Store:
    return Store(Settings(hub_cache=str(cache)))


@pytest.fixture
def snapshot(cache: Path, tmp_path: Path) -> Path:
    return add_to_hub_cache(cache, "acme/tiny", _write(tmp_path / "tiny", models.chat_model()))


def _names(store: Store) -> list[str]:
    return [model.ref.name for model in store.list()]


def _age(path: Path) -> None:
    """Make time stamps look settled."""
    for folder in (path, path.parent.parent / "blobs"):
        os.utime(folder, ns=(0, time.time_ns() - 10**9))


def test_the_demo_model_is_always_there(store: Store) -> None:
    (demo,) = store.list()
    assert demo.ref.name == DEMO
    assert {str(capability) for capability in demo.capabilities} == {"completion", "tools", "thinking"}
    assert (demo.details.family, demo.details.quantization_level) == ("llama", "BF16")
    assert len(demo.ref.digest) == 64
    for name in ("demo", "DEMO:latest", "hugging-llama/demo", "Hugging-Llama/Demo:main"):
        assert store.resolve(name) == demo
    with pytest.raises(ModelNotFoundError):
        store.resolve("demo:v2")


def test_no_cache_at_all(tmp_path: Path) -> None:
    for cache in ("", str(tmp_path / "none"), "/dev/null"):
        store = Store(Settings(hub_cache=cache))
        assert _names(store) == [DEMO]
        with pytest.raises(ModelNotFoundError):
            store.resolve("acme/tiny")


def test_a_model_in_the_cache(store: Store, snapshot: Path) -> None:
    model = store.resolve("acme/tiny")
    assert (model.ref.name, model.ref.path) == ("acme/tiny:latest", str(snapshot))
    assert model.details.parameter_count == 2048
    assert model.modified_at_s == pytest.approx(time.time(), abs=60)
    kept = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "modeling_custom.py"]
    assert model.size_bytes == sum((snapshot / path).stat().st_size for path in kept)


def test_a_real_embedding_model(cache: Path, store: Store) -> None:
    add_to_hub_cache(cache, "sentence-transformers/all-MiniLM-L6-v2", minilm_files())
    model = store.resolve("sentence-transformers/all-minilm-l6-v2")
    assert model.ref.name == "sentence-transformers/all-MiniLM-L6-v2:latest"
    assert [str(capability) for capability in model.capabilities] == ["embedding"]
    assert (model.details.family, model.details.parameter_count) == ("bert", 22713728)
    assert (model.details.context_length, model.details.embedding_length) == (256, 384)


def test_names_are_found_in_any_case(store: Store, snapshot: Path) -> None:
    for name in ("ACME/tiny", "acme/TINY:LATEST", "hf.co/Acme/Tiny", "acme/tiny:main", "acme/tiny:MAIN"):
        assert store.resolve(name).ref.name == "acme/tiny:latest"


def test_not_found_carries_both_names(store: Store, snapshot: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        store.resolve("Acme/other")
    assert caught.value.facts == {"name": "Acme/other", "canonical": "Acme/other:latest"}
    for name in ("acme/tiny:v1", "acme/tiny:" + "0" * 40, "tiny"):
        with pytest.raises(ModelNotFoundError):
            store.resolve(name)
    with pytest.raises(InvalidRequestError):
        store.resolve("../../etc")


def test_commits_without_a_ref_are_found_but_not_listed(store: Store, snapshot: Path) -> None:
    assert store.resolve(f"acme/tiny:{snapshot.name}").ref.name == f"acme/tiny:{snapshot.name}"
    assert _names(store) == ["acme/tiny:latest", DEMO]


def test_newest_first(cache: Path, store: Store, tmp_path: Path) -> None:
    for number, name in enumerate("bca"):
        add_to_hub_cache(cache, f"acme/{name}", _write(tmp_path / name, models.chat_model(seed=number)))
        ref = cache / f"models--acme--{name}" / "refs" / "main"
        os.utime(ref, (0, time.time() + 10 * number))
    assert _names(store) == ["acme/a:latest", "acme/c:latest", "acme/b:latest", DEMO]


def test_the_digest_follows_the_content(cache: Path, store: Store, tmp_path: Path) -> None:
    files = _write(tmp_path / "x", models.chat_model())
    add_to_hub_cache(cache, "acme/one", files)
    add_to_hub_cache(cache, "acme/two", files)
    assert store.resolve("acme/one").ref.digest == store.resolve("acme/two").ref.digest
    (files / "README.md").write_text("changed, but the engine does not read it")
    add_to_hub_cache(cache, "acme/three", files)
    assert store.resolve("acme/one").ref.digest == store.resolve("acme/three").ref.digest
    (files / "config.json").write_text(json.dumps(models.CONFIG | {"x": 1}))
    add_to_hub_cache(cache, "acme/four", files)
    assert store.resolve("acme/one").ref.digest != store.resolve("acme/four").ref.digest


def test_plain_files_instead_of_links(cache: Path, store: Store) -> None:
    root = cache / "models--acme--plain"
    folder = _write(root / "snapshots" / ("1" * 40), models.chat_model(40_000_000))
    _write(root / "refs", {"main": b"1" * 40})
    first = store.resolve("acme/plain")
    assert first == store.resolve("acme/plain")
    (folder / "config.json").write_text(json.dumps(models.CONFIG | {"model_type": "other"}))
    assert store.resolve("acme/plain").details.family == "other"
    assert store.resolve("acme/plain").ref.digest != first.ref.digest


@pytest.mark.parametrize("settled", [True, False])
def test_changes_are_seen(store: Store, snapshot: Path, settled: bool) -> None:
    blob = (snapshot / "model.safetensors").resolve()
    for _ in range(3):
        if settled:
            _age(snapshot)
        assert store.resolve("acme/tiny")
        content = blob.read_bytes()
        blob.unlink()
        with pytest.raises(ModelNotFoundError):
            store.resolve("acme/tiny")
        assert _names(store) == [DEMO]
        blob.write_bytes(content)
    assert store.resolve("acme/tiny")
    shutil.rmtree(snapshot.parent.parent)
    with pytest.raises(ModelNotFoundError):
        store.resolve("acme/tiny")
    assert _names(store) == [DEMO]


def test_broken_repositories_are_skipped(cache: Path, store: Store, snapshot: Path, tmp_path: Path) -> None:
    whole = models.chat_model()
    sharded = models.sharded_model()
    del sharded["model-00002-of-00002.safetensors"]
    broken = {
        "empty": {"README.md": b""},
        "no-config": {key: data for key, data in whole.items() if key != "config.json"},
        "bad-config": whole | {"config.json": b"{"},
        "no-weights": {key: data for key, data in whole.items() if not key.endswith("safetensors")},
        "cut": whole | {"model.safetensors": whole["model.safetensors"][:-1]},
        "half": sharded,
        "unknown-kind": whole | {"config.json": b'{"architectures": ["ViTModel"]}'},
    }
    for name, files in broken.items():
        add_to_hub_cache(cache, f"acme/{name}", _write(tmp_path / name, files))
    _write(cache, {"models--acme--x": b"a file", "models--..--x/refs/main": b"1" * 40, "version.txt": b"1"})
    _write(cache, {"models--acme--y/refs/main": b"../../../etc", "models--acme--z/refs/main": b"\xff" * 40})
    _write(cache, {"models--acme--w/refs/main/deep": b"1" * 40, "models--acme--v/refs/.hidden": b"1" * 40})
    _write(cache, {"datasets--acme--tiny/refs/main": b"1" * 40, "models--a--b--c/refs/main": b"1" * 40})
    _write(cache, {"models--acme--u:cloud/refs/main": b"1" * 40})
    (cache / "models--acme--loop").mkdir()
    (cache / "models--acme--loop" / "refs").symlink_to("refs")
    assert _names(store) == ["acme/tiny:latest", DEMO]


def test_nothing_is_read_again_while_nothing_changes(
    store: Store, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _age(snapshot)
    first = store.list()[0]

    def fail(folder: str) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("hugging_llama.store.snapshot.read_snapshot", fail)
    assert store.resolve("acme/tiny") == first
    assert store.list()[0] == first


@contextlib.contextmanager
def _looks() -> Iterator[list[object]]:
    """What is opened, and the folders that are read, inside of the block."""
    seen: list[object] = []

    def noted(real: Callable[..., Any]) -> Callable[..., Any]:
        def look(path: object = ".", *args: Any, **kwargs: Any) -> Any:
            if not isinstance(path, int):  # open by then
                seen.append(path)
            return real(path, *args, **kwargs)

        return look

    with pytest.MonkeyPatch.context() as patch:
        for place, name in ((os, "scandir"), (os, "listdir"), (os, "open"), (io, "open"), (builtins, "open")):
            patch.setattr(place, name, noted(getattr(place, name)))
        yield seen


def test_many_models_are_quick(cache: Path, store: Store, tmp_path: Path) -> None:
    for number in range(100):
        files = _write(tmp_path / str(number), models.chat_model(seed=number))
        _age(add_to_hub_cache(cache, f"acme/m{number}", files))
    assert len(store.list()) == 101
    with _looks() as looks:
        assert len(store.list()) == 101
    assert len(looks) < 250, "its refs and one of them for each: nothing else is looked into again"
    with _looks() as looks:
        store.resolve("acme/m50")
    assert len(looks) <= 2, "the others are not looked at"


def test_repositories_that_come_and_go_in_a_cache_that_stood_still(cache: Path, store: Store, tmp_path: Path) -> None:
    for name in ("Acme/A", "acme/a", "acme/b"):
        add_to_hub_cache(cache, name, _write(tmp_path / name.replace("/", "-"), models.chat_model()))
    os.utime(cache, ns=(0, time.time_ns() - 10**9))
    for _ in range(2):
        assert _names(store) == ["acme/b:latest", "acme/a:latest", "Acme/A:latest", DEMO]
        assert store.resolve("ACME/B").ref.name == "acme/b:latest"
    shutil.rmtree(cache / "models--acme--b")
    with pytest.raises(ModelNotFoundError):
        store.resolve("ACME/B")
    add_to_hub_cache(cache, "acme/C", tmp_path / "acme-b")
    assert store.resolve("ACME/c").ref.name == "acme/C:latest"


def test_a_branch_called_latest_is_not_listed_beside_the_default_one(cache: Path, store: Store, tmp_path: Path) -> None:
    files = _write(tmp_path / "tiny", models.chat_model())
    for revision in ("main", "latest"):
        add_to_hub_cache(cache, "acme/tiny", files, revision)
    assert _names(store) == ["acme/tiny:latest", DEMO]


def test_many_threads_and_a_cache_that_moves(cache: Path, store: Store, tmp_path: Path) -> None:
    files = [_write(tmp_path / str(number), models.chat_model(seed=number)) for number in range(3)]
    failures: list[BaseException] = []
    stop = threading.Event()

    def look() -> None:
        try:
            while not stop.is_set():
                store.list()
                with contextlib.suppress(ModelNotFoundError):
                    assert store.resolve("acme/m1").ref.name == "acme/m1:latest"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(12):
        add_to_hub_cache(cache, f"acme/m{turn % 3}", files[turn % 3])
        shutil.rmtree(cache / f"models--acme--m{(turn + 1) % 3}", ignore_errors=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_folder_that_is_mended_in_place_is_a_model_again(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_bytes(chat_model()[name])
    whole = (folder / "model.safetensors").read_bytes()
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(len(whole) - 1)
    for path in (folder, *folder.iterdir()):
        os.utime(path, (1, 1))
    facts = FolderFacts()
    assert facts.of(str(folder)) is None
    with (folder / "model.safetensors").open("ab") as file:
        file.write(whole[-1:])
    assert facts.of(str(folder)) is not None
