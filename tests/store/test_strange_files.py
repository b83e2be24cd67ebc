"""Files of models that are something else: pipes, devices, folders, and links that lead out of the model."""

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hugging_llama.errors import ModelNotFoundError
from hugging_llama.neutral.models import LocalModel
from hugging_llama.store import description, push_files
from hugging_llama.store.defaults import sampling_defaults
from hugging_llama.store.local import Store
from hugging_llama_config.settings import Settings
from tests.hub_cache import add_to_hub_cache
from tests.store import models

READ = (
    "LICENSE",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    "additional_chat_templates/tool_use.jinja",
)
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "README.md", "tokenizer.json")


def _socket(path: str) -> None:
    os.mknod(path, 0o600 | 0o140000)


STRANGE: dict[str, Callable[[str], None]] = {
    "pipe": os.mkfifo,
    "socket": _socket,
    "device": lambda path: os.symlink("/dev/zero", path),
    "folder": os.mkdir,
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


def _added(cache: Path, tmp_path: Path, repo: str, files: dict[str, bytes], *, has_blobs: bool) -> Path:
    """A snapshot of these files, of links into blobs or of plain ones."""
    source = tmp_path / repo
    for path, content in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
    snapshot = add_to_hub_cache(cache, repo, source)
    if not has_blobs:
        shutil.rmtree(snapshot)
        shutil.rmtree(snapshot.parents[1] / "blobs")
        shutil.copytree(source, snapshot)
    return snapshot


@pytest.fixture(params=["blobs", "no blobs"])
def snapshot(request: pytest.FixtureRequest, cache: Path, tmp_path: Path) -> Path:
    return _added(cache, tmp_path, "acme/tiny", models.chat_model(), has_blobs=request.param == "blobs")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("not to be told")
    return folder


def _store(cache: Path, **changes: object) -> Store:
    """One that has seen nothing yet."""
    return Store(Settings(hub_cache=str(cache), **changes))  # type: ignore[arg-type]


def _found(cache: Path) -> LocalModel | None:
    with contextlib.suppress(ModelNotFoundError):
        return _store(cache).resolve("acme/tiny")
    return None


@contextlib.contextmanager
def _replaced(file: Path, make: Callable[[str], None]) -> Iterator[None]:
    """Something else stands in a file's place."""
    kept = file.with_name(".kept")
    file.parent.mkdir(exist_ok=True)
    if was_there := os.path.lexists(file):
        file.rename(kept)
    make(str(file))
    yield
    file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
    if was_there:
        kept.rename(file)


@pytest.mark.parametrize("kind", STRANGE)
def test_every_file_may_be_a_strange_thing(cache: Path, snapshot: Path, kind: str) -> None:
    for path in READ:
        with _replaced(snapshot / path, STRANGE[kind]):
            found = _found(cache)
            assert _store(cache).list(), "it does not wait for ever"
            assert sampling_defaults(str(snapshot)) == {}
            if kind != "folder":
                assert found is None, path
            elif found:  # as if it were not there
                description.describe(found, with_lists=True)
                push_files.files_of(found, "acme/tiny", "")
    assert _found(cache)


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("has_blobs", [True, False])
def test_files_of_adapters_may_be_strange_things(cache: Path, tmp_path: Path, kind: str, has_blobs: bool) -> None:
    folder = _added(cache, tmp_path, "acme/lora", models.adapter(), has_blobs=has_blobs)
    store = _store(cache)
    for path in ADAPTER if kind != "folder" else ():
        with _replaced(folder / path, STRANGE[kind]), pytest.raises(OSError, match=r"no regular file|leads out"):
            store.find_adapter("acme/lora")
    assert store.find_adapter("acme/lora")


def test_what_becomes_a_pipe_after_it_was_looked_at(cache: Path, snapshot: Path) -> None:
    model = _store(cache).resolve("acme/tiny")
    for path in READ:
        with _replaced(snapshot / path, os.mkfifo), pytest.raises(ModelNotFoundError):
            description.describe(model, with_lists=True)


def test_a_ref_may_be_a_pipe(cache: Path, snapshot: Path) -> None:
    os.mkfifo(snapshot.parents[1] / "refs" / "v1")
    assert [model.ref.name for model in _store(cache).list()] == ["acme/tiny:latest", "hugging-llama/demo:latest"]
    with pytest.raises(ModelNotFoundError):
        _store(cache).resolve("acme/tiny:v1")


@pytest.mark.parametrize("path", READ)
def test_links_that_lead_out_of_the_model(cache: Path, snapshot: Path, outside: Path, path: str) -> None:
    depth = "../" * path.count("/")
    targets = (
        f"{outside}/secret",
        f"{snapshot.parents[1]}/refs/../../../outside/secret",
        f"{depth}../../refs/main",
        f"{depth}../../../../outside",
    )
    for target in targets:
        with _replaced(snapshot / path, functools.partial(os.symlink, target)):
            assert os.path.exists(snapshot / path), "it leads somewhere"
            assert _found(cache) is None
    assert _found(cache)


def test_a_blob_that_lies_elsewhere(cache: Path, tmp_path: Path) -> None:
    """Such as on a larger disk: the operator has put it there."""
    snapshot = _added(cache, tmp_path, "acme/tiny", models.chat_model(), has_blobs=True)
    blob = (snapshot / "model.safetensors").resolve()
    assert blob.parent.name == "blobs"
    blob.symlink_to(blob.rename(tmp_path / "other-disk"))
    assert _found(cache)


def test_what_nobody_reads_may_be_strange(cache: Path, snapshot: Path, outside: Path) -> None:
    (snapshot / "other.bin").symlink_to(outside / "secret")
    (snapshot / "sub").mkdir()
    (snapshot / "sub" / "notes.bin").symlink_to(outside / "secret")
    os.mkfifo(snapshot / "queue")
    assert _found(cache)
    (snapshot / "1_Pooling").symlink_to(outside)
    assert _found(cache) is None, "libraries open by name what lies in it"


def test_a_folder_that_is_a_link_out(cache: Path, snapshot: Path, tmp_path: Path) -> None:
    elsewhere = snapshot.rename(tmp_path / "elsewhere")
    snapshot.symlink_to(elsewhere)
    assert _found(cache) is None


def test_links_that_stay_within_the_model(cache: Path, snapshot: Path) -> None:
    (snapshot / "chat_template.jinja").symlink_to("tokenizer_config.json")
    found = _found(cache)
    assert found
    assert "<think>" in description.describe(found, with_lists=False).template


def test_a_repository_that_lies_elsewhere(cache: Path, snapshot: Path, tmp_path: Path) -> None:
    """Such as on another disk: the operator has put it there."""
    repo = snapshot.parents[1]
    repo.symlink_to(repo.rename(tmp_path / "other-disk"))
    assert _found(cache)


def test_links_in_a_folder_that_the_operator_named(cache: Path, tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "srv" / "models"
    shutil.copytree(_added(cache, tmp_path, "acme/tiny", models.chat_model(), has_blobs=False), root / "own")
    (root / "own" / "chat_template.jinja").symlink_to(outside / "secret")
    model = _store(cache, model_dirs=(str(root),)).resolve(f"{root}/own")
    assert description.describe(model, with_lists=False).template == "not to be told"
