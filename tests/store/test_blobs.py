"""Uploaded contents on disk: complete under their hash or not there, whatever comes in between."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.errors import BodyTooLargeError, HuggingLlamaError, InvalidRequestError, TransferError
from hugging_llama.store import folders, pruning
from hugging_llama.store.blobs import Blobs
from hugging_llama.store.local import Store
from hugging_llama.store.manifests import Manifest, Manifests, Source
from hugging_llama_config.settings import Settings
from tests.store import models

CONTENT = os.urandom(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
OTHER = "0" * 64


def reader(content: bytes) -> Callable[[int], bytes]:
    left = memoryview(content)

    def read(size: int) -> bytes:
        nonlocal left
        piece, left = left[:size], left[size:]
        return bytes(piece)

    return read


def names(home: Path) -> list[str]:
    return sorted(os.listdir(home / "blobs")) if (home / "blobs").exists() else []


def put(home: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    Blobs(str(home)).receive(digest, reader(content))
    return digest


def age(path: Path, hours: float) -> None:
    then = time.time() - hours * 3600
    os.utime(path, (then, then), follow_symlinks=False)


def test_a_content_is_kept_under_its_hash(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    assert not blobs.has(DIGEST)
    blobs.receive(DIGEST, reader(CONTENT), len(CONTENT))
    assert blobs.has(DIGEST)
    assert Path(blobs.path(DIGEST)).read_bytes() == CONTENT
    assert names(tmp_path) == [DIGEST]
    blobs.receive(DIGEST, reader(CONTENT))
    assert names(tmp_path) == [DIGEST]


def test_what_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    with pytest.raises(InvalidRequestError, match=f'expected "sha256:{OTHER}", got "sha256:{DIGEST}"'):
        blobs.receive(OTHER, reader(CONTENT))
    with pytest.raises(BodyTooLargeError):
        blobs.receive(DIGEST, reader(CONTENT), len(CONTENT) - 1)
    first = reader(CONTENT)

    def cut(size: int) -> bytes:
        if piece := first(size):
            assert len(names(tmp_path)) == 1
            return piece
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        blobs.receive(DIGEST, cut)
    assert names(tmp_path) == []


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_is_said_to_be_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    blobs = Blobs(str(tmp_path))
    put(tmp_path, b"first")  # the home is there
    real = getattr(os, call)

    def full(*args: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(TransferError, match="no space left on the disk") as caught:
            blobs.receive(DIGEST, reader(CONTENT))
    assert str(tmp_path) not in str(caught.value)
    assert getattr(os, call) is real
    assert len(names(tmp_path)) == 1
    assert not blobs.has(DIGEST)
    with pytest.raises(TransferError, match="not enough disk space"):
        blobs.check_space(2**62)
    blobs.check_space(1)


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A file system of 4 MB that takes the first content and not the second."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("can't mount a file system here")
    try:
        first = put(tmp_path, CONTENT[:2_000_000])
        with pytest.raises(TransferError, match="no space left on the disk"):
            put(tmp_path, CONTENT)
        assert names(tmp_path) == [first]
        os.unlink(tmp_path / "blobs" / first)
        second = put(tmp_path, CONTENT)
        assert names(tmp_path) == [second]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_many_may_bring_the_same_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def bring() -> None:
        try:
            Blobs(str(tmp_path)).receive(DIGEST, reader(CONTENT))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=bring) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names(tmp_path) == [DIGEST]
    assert Path(Blobs(str(tmp_path)).path(DIGEST)).read_bytes() == CONTENT


def test_a_file_of_ours_is_taken_over(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path / "home"))
    for _ in range(2):
        made = tmp_path / "made"
        made.write_bytes(CONTENT)
        age(made, 5)
        assert blobs.add_file(str(made)) == DIGEST
        assert not made.exists()
        assert blobs.prune(()) == 0, "it counts as new"
    assert Path(blobs.path(DIGEST)).read_bytes() == CONTENT
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(TransferError):
        blobs.add_file(str(tmp_path / "link"))


def test_a_file_of_another_user_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").write_bytes(CONTENT)
    inode, utime = (tmp_path / "theirs").stat().st_ino, os.utime

    def refuse_theirs(path: str) -> None:
        if os.stat(path).st_ino == inode:
            raise PermissionError(errno.EPERM, "not the owner")
        utime(path)

    monkeypatch.setattr(os, "utime", refuse_theirs)
    blobs = Blobs(str(tmp_path / "home"))
    assert blobs.add_copy(str(tmp_path / "theirs")) == DIGEST
    assert blobs.has(DIGEST)
    assert names(tmp_path / "home") == [DIGEST]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_of_others_is_kept_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EXDEV, "another disk")))
    theirs = tmp_path / "theirs"
    theirs.write_bytes(CONTENT)
    (tmp_path / "link").symlink_to(theirs)
    blobs = Blobs(str(tmp_path / "home"))
    for path in (theirs, tmp_path / "link"):
        age(theirs, 5)
        assert blobs.add_copy(str(path)) == DIGEST
        assert theirs.read_bytes() == CONTENT
        assert names(tmp_path / "home") == [DIGEST]
        assert os.path.samefile(theirs, blobs.path(DIGEST)) is links
        assert blobs.prune(()) == 0, "it counts as new"
    with pytest.raises(TransferError):
        blobs.add_copy(str(tmp_path / "nothing"))
    assert names(tmp_path / "home") == [DIGEST]


@given(text=st.text(max_size=70) | st.text(alphabet="0123456789abcdef", max_size=66) | st.sampled_from(
    ["../../etc/passwd", "A" * 64, "٠" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n", "0" * 32 + "/" + "0" * 31, "0" * 40]
))  # fmt: skip
def test_no_digest_leaves_the_folder(text: str) -> None:
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        assert Blobs("/home").path(text) == f"/home/blobs/{text}"
        return
    for call in (Blobs("/home").path, Blobs("/home").has):
        with pytest.raises(ValueError, match="digest"):
            call(text)


def test_only_plain_files_are_contents(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / OTHER).symlink_to("/dev/zero")
    assert not Blobs(str(tmp_path)).has(OTHER)
    os.unlink(tmp_path / "blobs" / OTHER)
    os.mkfifo(tmp_path / "blobs" / OTHER)
    assert not Blobs(str(tmp_path)).has(OTHER)


def make_model(home: Path, name: str = "mine:latest", seed: int = 0) -> dict[str, str]:
    """A named model of uploaded files."""
    found = models.chat_model(seed=seed)
    kept = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
    files = {path: put(home, found[path]) for path in kept}
    Store(Settings(home=str(home))).save(Manifest(name=name, source=Source(files=files)))
    return files


def test_pruning_takes_what_is_old_and_not_needed(tmp_path: Path) -> None:
    files = make_model(tmp_path)
    store = Store(Settings(home=str(tmp_path)))
    model = store.resolve("mine")
    old, new = put(tmp_path, b"old"), put(tmp_path, b"new")
    unused = folders.make_folder(str(tmp_path), {"config.json": old})
    leftovers = [tmp_path / "blobs" / f".{OTHER}.1.0123abcd", tmp_path / "models" / ".x--latest.json.1.0123abcd"]
    for path in leftovers:
        path.write_bytes(b"half")
    lock = tmp_path / "models" / ".lock"
    for path in (*leftovers, lock, tmp_path / "blobs" / old, Path(unused), Path(model.ref.path)):
        age(path, 1.5)
    for digest in files.values():
        age(tmp_path / "blobs" / digest, 100)
    fresh = tmp_path / "blobs" / f".{OTHER}.2.cd"
    fresh.write_bytes(b"on its way")
    assert pruning.prune(str(tmp_path)) == len(b"old") + len(b"half")
    assert names(tmp_path) == sorted([*set(files.values()), new, fresh.name])
    assert os.listdir(tmp_path / "folders") == [os.path.basename(model.ref.path)]
    assert sorted(os.listdir(tmp_path / "models")) == [".lock", "mine--latest.json"]
    assert store.resolve("mine") == model
    assert pruning.prune(str(tmp_path)) == 0


def test_who_asks_for_a_content_keeps_it(tmp_path: Path) -> None:
    digest = put(tmp_path, b"old")
    age(tmp_path / "blobs" / digest, 2)
    assert Blobs(str(tmp_path)).has(digest)
    assert pruning.prune(str(tmp_path)) == 0
    assert names(tmp_path) == [digest]


def test_nothing_is_pruned_while_a_manifest_can_not_be_read(tmp_path: Path) -> None:
    digest = put(tmp_path, b"old")
    age(tmp_path / "blobs" / digest, 2)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "x--latest.json").write_text("{")
    assert pruning.prune(str(tmp_path)) == 0
    assert names(tmp_path) == [digest]


def test_pruning_makes_way_for_who_writes(tmp_path: Path) -> None:
    put(tmp_path, b"x")
    with Store(Settings(home=str(tmp_path))).lock():
        assert pruning.prune(str(tmp_path)) is None
    assert pruning.prune(str(tmp_path)) == 0


@pytest.mark.parametrize("noprune", [False, True])
def test_a_server_tidies_when_it_starts(tmp_path: Path, noprune: bool) -> None:
    digest = put(tmp_path, b"old")
    age(tmp_path / "blobs" / digest, 2)
    Store(Settings(home=str(tmp_path), noprune=noprune)).tidy()
    assert names(tmp_path) == ([digest] if noprune else [])
    assert (tmp_path / "format").read_text() == "2\n"
    Store(Settings(home="")).tidy()
    (tmp_path / "a file").touch()
    Store(Settings(home=str(tmp_path / "a file"))).tidy()  # is logged and no more


def test_a_model_whose_content_was_pruned_meanwhile_is_not_written(tmp_path: Path) -> None:
    files = make_model(tmp_path)
    os.unlink(tmp_path / "blobs" / files["config.json"])
    with pytest.raises(InvalidRequestError, match="not found"):
        Store(Settings(home=str(tmp_path))).save(Manifest(name="other:latest", source=Source(files=files)))
    assert [named.manifest.name for named in Manifests(str(tmp_path)).all()] == ["mine:latest"]


_UPLOADER = """
import hashlib, sys
from hugging_llama.store.blobs import Blobs
blobs = Blobs(sys.argv[1])
content = b"x" * 50_000_000
pieces = iter(range(0, len(content), 2**20))
def read(size):
    print("read", flush=True)
    at = next(pieces, len(content))
    return content[at:at + 2**20]
blobs.receive(hashlib.sha256(content).hexdigest(), read)
"""


def test_a_killed_upload_is_no_content(tmp_path: Path) -> None:
    for reads in (1, 2, 30, 48):
        command = [sys.executable, "-c", _UPLOADER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for _ in range(reads):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
    left = names(tmp_path)
    assert left
    assert all(name.startswith(".") for name in left)
    for name in left:
        age(tmp_path / "blobs" / name, 2)
    assert pruning.prune(str(tmp_path)) is not None
    assert names(tmp_path) == []


def test_a_home_of_a_later_version_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("3\n")
    with pytest.raises(HuggingLlamaError, match="install the newer version"):
        Blobs(str(tmp_path)).receive(DIGEST, reader(CONTENT))
    assert names(tmp_path) == []
    with pytest.raises(InvalidRequestError, match="HUGGING_LLAMA_HOME"):
        Blobs("").receive(DIGEST, reader(CONTENT))
