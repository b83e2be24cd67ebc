"""Models taken off the disk: all that is theirs, nothing of anybody else's, whenever the power goes."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from hugging_llama.errors import InvalidRequestError
from hugging_llama.store import folders, removal
from hugging_llama.store.local import Store
from hugging_llama.store.manifests import Manifest, Source
from hugging_llama.store.names import parse_name
from hugging_llama_config.settings import Settings
from tests.hub_cache import add_to_hub_cache
from tests.store.models import CONFIG, adapter, chat_model, sha256

DEMO = "hugging-llama/demo:latest"


def _files(folder: Path, seed: int = 0, **more: bytes) -> Path:
    """A small chat model's files; `more` makes it another commit."""
    kept = ("config.json", "tokenizer.json", "model.safetensors", "LICENSE")
    files = {name: content for name, content in chat_model(seed=seed).items() if name in kept}
    folder.mkdir()
    for name, content in (files | {f"{key}.json": value for key, value in more.items()}).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=str(tmp_path / "home"), hub_cache=str(tmp_path / "hub"))


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The snapshot of `acme/a:main`."""
    return add_to_hub_cache(tmp_path / "hub", "acme/a", _files(tmp_path / "first"))


def _remove(settings: Settings, name: str) -> int | None:
    store = Store(settings)
    with store.lock():
        removed = removal.remove_model(settings, store, name)
    return None if removed is None else removed.freed_bytes


def _names(settings: Settings) -> list[str]:
    return [model.ref.name for model in Store(settings).list() if model.ref.name != DEMO]


def _size(*folders: Path) -> int:
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def _copy(settings: Settings, source: str, name: str) -> None:
    store = Store(settings)
    manifest = store.manifest(store.resolve(source))
    store.named.write(Manifest(name=name, source=manifest.source))


def _tree(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_the_only_revision_goes_with_its_repository(settings: Settings, first: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    other = add_to_hub_cache(hub, "acme/b", _files(tmp_path / "other", seed=1))
    before = _tree(hub / "models--acme--b")
    repo = hub / "models--acme--a"
    (repo / ".no_exist" / first.name).mkdir(parents=True)
    (repo / ".no_exist" / first.name / "x.json").touch()
    (repo / "blobs" / ("a" * 64 + ".part")).write_bytes(b"part")
    (repo / "blobs" / ("b" * 64 + ".12ab.incomplete")).write_bytes(b"incomplete")
    (hub / ".locks" / "models--acme--a").mkdir(parents=True)
    (hub / ".locks" / "models--acme--a" / ("a" * 64 + ".lock")).touch()
    assert _remove(settings, "ACME/A") == _size(tmp_path / "first") + len(b"partincomplete")
    assert sorted(os.listdir(hub)) == [".locks", "models--acme--b"]
    assert os.listdir(hub / ".locks") == []
    assert _tree(hub / "models--acme--b") == before
    assert other.is_dir()
    assert _names(settings) == ["acme/b:latest"]
    assert _remove(settings, "acme/a") is None


def test_what_another_revision_needs_stays(settings: Settings, first: Path, tmp_path: Path) -> None:
    second = add_to_hub_cache(tmp_path / "hub", "acme/a", _files(tmp_path / "second", extra=b"{}" * 10), "refs/pr/1")
    assert _names(settings) == ["acme/a:refs/pr/1", "acme/a:latest"]
    assert _remove(settings, "acme/a") == 0, "the other commit has the same files and one more"
    assert not first.exists()
    assert second.is_dir()
    assert _names(settings) == ["acme/a:refs/pr/1"]
    assert all(path.is_file() for path in second.iterdir())
    assert len(next(iter(scan_cache_dir(tmp_path / "hub").repos)).revisions) == 1
    assert _remove(settings, "acme/a:refs/pr/1") == _size(tmp_path / "second")
    assert not (tmp_path / "hub" / "models--acme--a").exists()


def test_two_names_of_one_commit(settings: Settings, first: Path, tmp_path: Path) -> None:
    add_to_hub_cache(tmp_path / "hub", "acme/a", tmp_path / "first", "v1")
    with pytest.raises(InvalidRequestError, match="this commit is acme/a:latest"):
        _remove(settings, f"acme/a:{first.name}")
    assert _remove(settings, "acme/a:V1") == 0
    assert _names(settings) == ["acme/a:latest"]
    (tmp_path / "hub" / "models--acme--a" / "refs" / "main").unlink()
    assert _remove(settings, f"acme/a:{first.name.upper()}") == _size(tmp_path / "first")


def test_a_commit_that_a_named_model_is_made_of_goes_with_the_last_of_those(
    settings: Settings, first: Path, tmp_path: Path
) -> None:
    for name in ("mine:latest", "other:latest"):
        _copy(settings, "acme/a", name)
    assert _remove(settings, "acme/a") == 0
    assert sorted(_names(settings)) == ["mine:latest", "other:latest"]
    with pytest.raises(InvalidRequestError, match="delete them first"):
        _remove(settings, f"acme/a:{first.name}")
    small = _remove(settings, "mine")
    assert small is not None
    assert 0 < small < 1000
    assert first.is_dir()
    assert _remove(settings, "other") == small + 1 + _size(tmp_path / "first")  # its name is a letter longer
    assert _tree(tmp_path / "hub") == {}
    assert _names(settings) == []


def test_a_commit_whose_last_named_model_is_made_anew_goes_with_the_next_deletion(
    settings: Settings, first: Path, tmp_path: Path
) -> None:
    _copy(settings, "acme/a", "mine:latest")
    assert _remove(settings, "acme/a") == 0
    for name in ("mine:latest", "other:latest"):
        _copy(settings, "demo", name)
    assert first.is_dir()
    freed = _remove(settings, "other")
    assert freed is not None
    assert freed > _size(tmp_path / "first")
    assert _tree(tmp_path / "hub") == {}
    assert os.listdir(tmp_path / "home" / "released") == []


def test_a_commit_whose_last_named_model_goes_during_a_pull_goes_with_the_next_deletion(
    settings: Settings, first: Path, tmp_path: Path
) -> None:
    _copy(settings, "acme/a", "mine:latest")
    assert _remove(settings, "acme/a") == 0
    lock = tmp_path / "hub" / ".locks" / "models--acme--a" / "pull.lock"
    with lock.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_SH)
        assert _remove(settings, "mine") is not None
    assert first.is_dir()
    _copy(settings, "demo", "other:latest")
    freed = _remove(settings, "other")
    assert freed is not None
    assert freed > _size(tmp_path / "first")
    assert not first.exists()


def test_a_commit_that_has_a_name_again_stays(settings: Settings, first: Path, tmp_path: Path) -> None:
    _copy(settings, "acme/a", "mine:latest")
    assert _remove(settings, "acme/a") == 0
    add_to_hub_cache(tmp_path / "hub", "acme/a", tmp_path / "first")
    assert _remove(settings, "mine") is not None
    assert _names(settings) == ["acme/a:latest"]
    assert os.listdir(tmp_path / "home" / "released") == []


def test_a_named_model_leaves_the_hubs_alone(settings: Settings, first: Path, tmp_path: Path) -> None:
    before = _tree(tmp_path / "hub")
    _copy(settings, "acme/a", "mine:latest")
    (tmp_path / "hub" / "models--acme--a" / "refs" / "main").unlink()  # by another tool: it is not ours to clear away
    _remove(settings, "mine")
    before.pop("models--acme--a/refs/main")
    assert _tree(tmp_path / "hub") == before


def test_of_two_models_of_one_name_the_named_one_goes_first(settings: Settings, first: Path, tmp_path: Path) -> None:
    Store(settings).named.write(Manifest(name="acme/a:latest", source=Source(base=DEMO)))
    before = _tree(tmp_path / "hub")
    assert _remove(settings, "acme/a") is not None
    assert (_tree(tmp_path / "hub"), _names(settings)) == (before, ["acme/a:latest"])
    assert Store(settings).resolve("acme/a").ref.path == str(first)
    assert _remove(settings, "acme/a")
    assert _names(settings) == []


def test_an_interrupted_removal_of_the_named_one_takes_no_other(
    settings: Settings, first: Path, tmp_path: Path
) -> None:
    named = Store(settings).named
    named.write(Manifest(name="acme/a:latest", source=Source(base=DEMO)))
    before = _tree(tmp_path / "hub")
    assert named.retire(parse_name("acme/a")) is not None  # and no `forget`
    assert _remove(settings, "acme/a") is not None
    assert _tree(tmp_path / "hub") == before
    assert _remove(settings, "acme/a")
    assert _names(settings) == []


def test_an_adapter_is_removed_by_its_name(settings: Settings, first: Path, tmp_path: Path) -> None:
    files = tmp_path / "lora"
    files.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (files / name).write_bytes(adapter()[name])
    commit = add_to_hub_cache(tmp_path / "hub", "acme/lora", files).name
    store = Store(settings)
    lora = Source(base="acme/lora:latest", commit=commit)
    store.named.write(Manifest(name="mine:latest", source=Source(base="acme/a:latest"), adapter=lora))
    assert _remove(settings, "acme/lora") == 0, "a model needs it"
    assert "mine:latest" in _names(settings)
    assert (_remove(settings, "mine") or 0) > _size(files)
    assert not (tmp_path / "hub" / "models--acme--lora").exists()

    add_to_hub_cache(tmp_path / "hub", "acme/lora", files)
    assert _remove(settings, "Acme/Lora") == _size(files)
    assert not (tmp_path / "hub" / "models--acme--lora").exists()
    assert _names(settings) == ["acme/a:latest"]


def _upload(settings: Settings, contents: dict[str, bytes]) -> dict[str, str]:
    blobs = Path(settings.home) / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    for content in contents.values():
        (blobs / sha256(content)).write_bytes(content)
    return {name: sha256(content) for name, content in contents.items()}


def test_blobs_that_another_named_model_is_made_of_stay(settings: Settings, tmp_path: Path) -> None:
    contents = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors": chat_model()["model.safetensors"],
    }
    files = _upload(settings, contents)
    more = files | _upload(settings, {"generation_config.json": b'{"top_k": 5}'})
    store = Store(settings)
    for name, made_of in (("a:latest", files), ("b:latest", files), ("c:latest", more)):
        store.named.write(Manifest(name=name, source=Source(files=made_of)))
    assert len(_names(settings)) == 3
    blobs = tmp_path / "home" / "blobs"
    small = _remove(settings, "a")
    assert small is not None
    assert len(os.listdir(blobs)) == 4
    assert _remove(settings, "b") == small
    assert not os.path.exists(folders.folder_path(settings.home, files))
    assert len(os.listdir(blobs)) == 4
    freed = _remove(settings, "c")
    assert freed is not None
    assert freed > sum(len(content) for content in contents.values())
    assert os.listdir(blobs) == os.listdir(tmp_path / "home" / "folders") == []


def test_blobs_stay_while_nobody_knows_who_needs_them(settings: Settings, tmp_path: Path) -> None:
    contents = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": chat_model()["model.safetensors"]}
    store = Store(settings)
    files = _upload(settings, contents)
    for name in ("a:latest", "b:latest"):
        store.named.write(Manifest(name=name, source=Source(files=files)))
    manifest = tmp_path / "home" / "models" / "b--latest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-9])
    assert _remove(settings, "a") is not None
    assert _names(settings) == []
    manifest.write_bytes(whole)
    assert _names(settings) == ["b:latest"]


@pytest.mark.parametrize("lock", ["pull.lock", "a" * 64 + ".lock"])
def test_a_model_that_is_being_pulled_stays(settings: Settings, first: Path, tmp_path: Path, lock: str) -> None:
    path = tmp_path / "hub" / ".locks" / "models--acme--a" / lock
    path.parent.mkdir(parents=True)
    before = _tree(tmp_path / "hub")
    with path.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_SH if lock == "pull.lock" else fcntl.LOCK_EX)
        with pytest.raises(InvalidRequestError, match="acme/a is being pulled"):
            _remove(settings, "acme/a")
    assert {name: found for name, found in _tree(tmp_path / "hub").items() if not name.endswith(".lock")} == before
    assert _remove(settings, "acme/a")


def _link_repo(repo: Path, outside: Path) -> None:
    repo.rename(outside)
    repo.symlink_to(outside)


def _link_blobs(repo: Path, outside: Path) -> None:
    (repo / "blobs").rename(outside)
    (repo / "blobs").symlink_to(outside)


@pytest.mark.parametrize("link", [_link_repo, _link_blobs])
def test_folders_that_are_links_are_not_followed(
    settings: Settings, first: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    outside = tmp_path / "outside"
    link(tmp_path / "hub" / "models--acme--a", outside)
    before = _tree(tmp_path)
    with pytest.raises(InvalidRequestError, match="is a link to another place"):
        _remove(settings, "acme/a")
    (tmp_path / "home" / "models" / ".lock").unlink()
    assert _tree(tmp_path) == before


def test_links_to_elsewhere_go_and_what_they_lead_to_stays(settings: Settings, first: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.json").write_bytes(b"{}")
    blob = (first / "model.safetensors").resolve()
    blob.rename(outside / "shared-weights")  # a store of blobs that several caches share
    blob.symlink_to(outside / "shared-weights")
    (first / "linked.png").symlink_to(outside / "precious.json")  # one that is read would make it no model
    (first / "linked_folder").symlink_to(outside)
    (first.parent / ("f" * 40)).symlink_to(outside)
    before = _tree(outside)
    freed = _remove(settings, "acme/a")
    assert freed is not None
    assert 0 < freed < (outside / "shared-weights").stat().st_size
    assert _tree(outside) == before
    assert not (tmp_path / "hub" / "models--acme--a").exists()


def test_what_this_server_does_not_serve_stays(settings: Settings, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "model_index.json").write_text("{}")
    add_to_hub_cache(tmp_path / "hub", "acme/pictures", pictures)
    before = _tree(tmp_path / "hub")
    assert _remove(settings, "acme/pictures") is None
    with pytest.raises(InvalidRequestError, match="comes with the server"):
        _remove(settings, "DEMO")
    assert _tree(tmp_path / "hub") == before


def test_what_an_earlier_version_has_pulled_in_vain_goes(settings: Settings, tmp_path: Path) -> None:
    files = _files(tmp_path / "broken")
    (files / "model.safetensors").write_bytes(b"x" * 4000)
    add_to_hub_cache(tmp_path / "hub", "acme/broken", files)
    assert _names(settings) == []
    assert _remove(settings, "acme/broken") == _size(files)
    assert not (tmp_path / "hub" / "models--acme--broken").exists()


def test_the_leftovers_of_a_first_pull_go(settings: Settings, tmp_path: Path) -> None:
    blobs = tmp_path / "hub" / "models--acme--a" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / ("a" * 64 + ".part")).write_bytes(b"123")
    assert _remove(settings, "acme/a") == 3
    assert not blobs.parent.exists()


_KILLED = """
import os, signal, sys
from hugging_llama.store import removal
from hugging_llama.store.local import Store
from hugging_llama_config.settings import Settings

settings = Settings(home=sys.argv[1] + "/home", hub_cache=sys.argv[1] + "/hub")
left = int(sys.argv[3])

def mortal(change):
    def run(*args, **kwargs):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return change(*args, **kwargs)
    return run

store = Store(settings)
with store.lock():
    for name in ("rename", "replace", "unlink", "rmdir"):
        setattr(os, name, mortal(getattr(os, name)))
    removal.remove_model(settings, store, sys.argv[2])
"""


def _killed_at(tmp_path: Path, name: str, point: int) -> bool:
    """Remove a model in a process that dies before its `point`-th change of the disk; False if it had fewer."""
    command = [sys.executable, "-c", _KILLED, str(tmp_path), name, str(point)]
    return subprocess.run(command, check=False, timeout=60).returncode != 0


def test_every_kill_in_a_removal_is_mended_by_a_second(settings: Settings, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    _files(tmp_path / "first")
    _files(tmp_path / "second", seed=1, extra=b"{}")
    contents = {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors": chat_model(seed=2)["model.safetensors"],
    }
    kills = 0
    for point in range(100):
        add_to_hub_cache(hub, "acme/a", tmp_path / "first")
        add_to_hub_cache(hub, "acme/a", tmp_path / "second", "dev")
        store = Store(settings)
        store.named.write(Manifest(name="files:latest", source=Source(files=_upload(settings, contents))))
        whole = {model.ref.name: model.ref.digest for model in store.list()}
        kills_before = kills
        for name in ("acme/a", "files"):
            if _killed_at(tmp_path, name, point):
                kills += 1
                survivors = {model.ref.name: model.ref.digest for model in Store(settings).list()}
                assert survivors.items() <= whole.items(), (name, point)
                made_again = folders.make_folder(settings.home, _upload(settings, contents))
                assert set(os.listdir(made_again)) == contents.keys(), (name, point)
                assert _remove(settings, name) is not None, (name, point)
            assert parse_name(name).display not in _names(settings)
            assert "acme/a:dev" in _names(settings)
        assert len(os.listdir(hub / "models--acme--a" / "snapshots")) == 1, point
        kept = {path.resolve().name for path in hub.glob("models--acme--a/snapshots/*/*")}
        assert set(os.listdir(hub / "models--acme--a" / "blobs")) == kept, point
        assert os.listdir(tmp_path / "home" / "blobs") == os.listdir(tmp_path / "home" / "folders") == []
        if kills == kills_before:
            break
    assert kills > 10
