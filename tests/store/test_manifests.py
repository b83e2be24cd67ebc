"""Named models on disk: written whole or not at all, found in any case of letters, never outside their folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.errors import InvalidRequestError, ModelNotFoundError
from hugging_llama.neutral.requests import SamplingParams
from hugging_llama.store.local import Store
from hugging_llama.store.manifests import Manifest, Manifests, Source
from hugging_llama.store.names import parse_name, parse_own_name
from hugging_llama_config.settings import Settings
from tests.hub_cache import add_to_hub_cache, minilm_files

DEMO = "hugging-llama/demo:latest"
EVERYTHING = {
    "temperature": 0.5,
    "seed": None,
    "stop": ("a", "b"),
    "logit_bias": ((5, 1.0), ("word", -2.0)),
    "bad_words": ("no", (1, 2)),
    "early_stopping": "never",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Settings(home=str(tmp_path / "home"), hub_cache=str(tmp_path / "hub")))


HOME_FILES = {"format", ".format.lock"}


def _files(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "home" / "models"))


def _remove(manifests: Manifests, name: str) -> bool:
    if manifests.retire(parse_name(name)) is None:
        return False
    return manifests.forget(parse_name(name)) > 0


def test_a_named_model_is_its_base_under_another_name(store: Store, tmp_path: Path) -> None:
    base = store.resolve("demo")
    store.named.write(
        Manifest(
            name="Mine:V1",
            source=Source(base=DEMO),
            quantization="int8",
            parameters=EVERYTHING,
            context_length=512,
            system="Be brief.",
        )
    )
    for name in ("mine:v1", "MINE:V1"):
        mine = Store(Settings(home=str(tmp_path / "home"))).resolve(name)
        assert (mine.ref.name, mine.ref.path, mine.ref.quantization) == ("Mine:V1", base.ref.path, "int8")
        assert mine.defaults.sampling == EVERYTHING
        assert SamplingParams(**mine.defaults.sampling).logit_bias == ((5, 1.0), ("word", -2.0))
        assert (mine.defaults.context_length, mine.defaults.system) == (512, "Be brief.")
        assert (mine.parent, mine.quantization_level) == (DEMO, "INT8")
        assert mine.capabilities == base.capabilities
    assert [model.ref.name for model in store.list()] == ["Mine:V1", DEMO]
    assert _files(tmp_path) == ["mine--v1.json"]
    with pytest.raises(ModelNotFoundError):
        store.resolve("mine")
    assert _remove(store.named, "mine:V1")
    assert not _remove(store.named, "mine:V1")
    assert _files(tmp_path) == []
    assert [model.ref.name for model in store.list()] == [DEMO]


def test_the_digest_is_that_of_the_content(store: Store, tmp_path: Path) -> None:
    def digest(name: str, base: str = DEMO, **facts: Any) -> str:
        store.named.write(Manifest(name=name, source=Source(base=base), **facts))
        return store.resolve(name).ref.digest

    first = digest("a:latest", quantization="int8")
    assert len(first) == 64
    assert digest("b:latest", quantization="int8") == first
    assert len({first, digest("a:latest", system="x"), digest("a:latest", requires="0.1.0"), digest("a:latest")}) == 4
    assert digest("a:latest") == store.resolve("demo").ref.digest, "a copy is what it was made from"
    add_to_hub_cache(tmp_path / "hub", "acme/one", minilm_files())
    add_to_hub_cache(tmp_path / "hub", "acme/two", minilm_files())
    assert digest("c:latest", "acme/one:latest", system="x") == digest("d:latest", "acme/two:latest", system="x")


def test_a_named_model_goes_before_the_hubs_of_its_name(store: Store, tmp_path: Path) -> None:
    store.named.write(Manifest(name="acme/mini:latest", source=Source(base=DEMO), quantization="int4"))
    snapshot = add_to_hub_cache(tmp_path / "hub", "Acme/Mini", minilm_files())
    assert store.resolve("ACME/mini").parent == DEMO
    assert sorted(model.ref.name for model in store.list()) == ["acme/mini:latest", DEMO]
    assert store.resolve(f"acme/mini:{snapshot.name}").ref.path == str(snapshot)
    assert _remove(store.named, "acme/mini")
    assert (store.resolve("acme/mini").ref.path, store.resolve("acme/mini").parent) == (str(snapshot), "")
    assert sorted(model.ref.name for model in store.list()) == ["Acme/Mini:latest", DEMO]


def test_a_named_model_that_lacks_its_base_hides_behind_no_other(store: Store, tmp_path: Path) -> None:
    store.named.write(Manifest(name="acme/mini:latest", source=Source(base="acme/gone:latest")))
    add_to_hub_cache(tmp_path / "hub", "acme/mini", minilm_files())
    with pytest.raises(ModelNotFoundError, match="acme/gone"):
        store.resolve("acme/mini")
    assert [model.ref.name for model in store.list()] == [DEMO]


def test_a_named_model_whose_base_is_gone_says_which(store: Store) -> None:
    store.named.write(Manifest(name="mine:latest", source=Source(base="acme/gone:v2")))
    assert [model.ref.name for model in store.list()] == [DEMO]
    with pytest.raises(ModelNotFoundError, match="acme/gone:v2"):
        store.resolve("mine")
    assert _remove(store.named, "mine")


def test_a_named_model_whose_commit_or_adapter_is_gone_says_which(store: Store) -> None:
    commit = "c" * 40
    gone = Source(base="acme/gone:v2", commit=commit)
    store.named.write(Manifest(name="mine:latest", source=gone))
    store.named.write(Manifest(name="yours:latest", source=Source(base=DEMO), adapter=gone))
    for name in ("mine", "yours"):
        with pytest.raises(ModelNotFoundError, match=f"acme/gone:{commit}"):  # what v2 means by now is another model
            store.resolve(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"version": 2, "name": "x:latest", "from": "a/b:latest"}',
        '{"version": 1, "name": "y:latest", "from": "a/b:latest"}',
        '{"version": 1, "name": "../x:latest", "from": "a/b:latest"}',
        '{"version": 1, "name": "x:latest", "from": "../b:latest"}',
        '{"version": 1, "name": "x:latest", "from": "a/b:latest", "quantization": "int3"}',
        '{"version": 1, "name": "x:latest", "from": "a/b:latest", "parameters": {"temperature": "hot"}}',
        '{"version": 1, "name": "x:latest", "from": "a/b:latest", "parameters": {"nonsense": 1}}',
        '{"version": 1, "name": "x:cloud", "from": "a/b:latest"}',
        '{"version": 1, "name": "x:latest", "from": "a/b:cloud"}',
        '{"version": 2, "name": "x:latest", "source": {"from": "/a/b", "commit": "%s"}}' % ("1" * 40),
        "[" * 100_000,
    ],
)
def test_what_is_not_a_manifest_is_not_there(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "x--latest.json").write_text(text)
    (folder / ".x--latest.json.1.ab").write_text('{"version": 1, "name": "x:latest", "from": "a/b:latest"}')
    manifests = Manifests(str(tmp_path))
    assert manifests.find(parse_name("x")) is None
    assert list(manifests.all()) == []
    manifests.write(Manifest(name="x:latest", source=Source(base="a/b:latest")))
    assert manifests.find(parse_name("x")) is not None


def test_a_write_that_fails_leaves_the_old_one(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.named.write(Manifest(name="mine:latest", source=Source(base=DEMO), system="old"))

    def full(*args: object) -> None:
        raise OSError("no space left")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match="no space"):
                store.named.write(Manifest(name="mine:latest", source=Source(base=DEMO), system="new"))
        assert store.resolve("mine").defaults.system == "old"
        assert _files(tmp_path) == ["mine--latest.json"]
    with pytest.raises(InvalidRequestError, match="bytes"):
        store.named.write(Manifest(name="mine:latest", source=Source(base=DEMO), system="x" * 2**22))
    assert store.resolve("mine").defaults.system == "old"
    with pytest.raises(InvalidRequestError, match="HUGGING_LLAMA_HOME"):
        Manifests("").write(Manifest(name="mine:latest", source=Source(base=DEMO)))


_WRITER = """
import sys
from hugging_llama.store.manifests import Manifest, Manifests, Source
manifests = Manifests(sys.argv[1])
for number in range(10**9):
    manifests.write(Manifest(name="mine:latest", source=Source(base="a/b:latest"), system=f"{number % 10}" * 200_000))
    print(number, flush=True)
"""


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that write one model again and again."""
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    yield started
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_writers_that_are_killed_leave_a_whole_manifest(tmp_path: Path, writers: list[subprocess.Popen[str]]) -> None:
    manifests = Manifests(str(tmp_path))
    for process in writers:
        assert process.stdout
        process.stdout.readline()  # it has begun
        for _ in range(50):  # read while both write
            found = manifests.find(parse_name("mine"))
            assert found
            assert len(set(found.manifest.system)) == 1
            assert len(found.manifest.system) == 200_000
        process.kill()
    assert len(list(manifests.all())) == 1
    manifests.write(Manifest(name="mine:latest", source=Source(base="a/b:latest"), system="after"))
    assert [named.manifest.system for named in manifests.all()] == ["after"]


@pytest.mark.parametrize(
    "text", ["hf.co/a/b", "a/b:refs/pr/1", "a/b:c--d", "a/b:c+d", "a/" + "b" * 96 + ":" + "c" * 96 + "d"]
)
def test_names_that_only_the_hub_may_have(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_own_name(text)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("scratch")


@given(text=st.text() | st.text(alphabet="ab./\\:-_ \0\n~%", max_size=12))
def test_no_name_leaves_the_folder(scratch: Path, text: str) -> None:
    folder = scratch
    try:
        name = parse_own_name(text)
    except InvalidRequestError:
        with pytest.raises(InvalidRequestError):
            Manifests(str(folder)).write(Manifest(name=text, source=Source(base=DEMO)))
        return
    manifests = Manifests(str(folder))
    manifests.write(Manifest(name=name.display, source=Source(base=DEMO)))
    try:
        (file,) = (path for path in folder.rglob("*") if not path.is_dir() and path.name not in HOME_FILES)
        assert file.parent == folder / "models"
        assert [named.manifest.name for named in manifests.all()] == [name.display]
    finally:
        assert _remove(manifests, name.display)
