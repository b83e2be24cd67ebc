"""A disk that is full or fails: told without its paths, and only a whole model is ever seen."""

import errno
import os
import shutil
from typing import Any

import pytest

from hugging_llama.errors import ModelNotFoundError, TransferError
from tests.hub_server import Repo
from tests.store import models
from tests.store.conftest import Workplace

SIZE = 3_000_000


@pytest.fixture
def tiny(work: Workplace) -> Repo:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model(SIZE))
    return work.hub.repos["acme/tiny"]


def _assert_nothing_visible(work: Workplace) -> None:
    assert work.refs() == []
    assert [model.ref.name for model in work.store.list()] == ["hugging-llama/demo:latest"]
    with pytest.raises(ModelNotFoundError):
        work.store.resolve("acme/tiny")


def test_too_little_space_is_told_before_any_byte(work: Workplace, tiny: Repo, monkeypatch: Any) -> None:
    usage = shutil.disk_usage(work.cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(
        TransferError, match=r"not enough disk space for the model: 3\.0 MB are needed, 1 KB are free"
    ) as caught:
        work.pull("acme/tiny")
    assert caught.value.facts == {"cause": "disk full", "repo": "acme/tiny"}
    assert work.hub.requests("/resolve/") == []
    _assert_nothing_visible(work)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_midway(work: Workplace, tiny: Repo, monkeypatch: Any, number: int) -> None:
    whole_write = os.pwrite
    left = 1_500_000

    def failing_write(fd: int, data: memoryview, offset: int) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(number, os.strerror(number), "/some/path")
        written = whole_write(fd, data[: min(left, 100_000)], offset)  # short writes are legal, too
        left -= written
        return written

    monkeypatch.setattr(os, "pwrite", failing_write)
    with pytest.raises(TransferError) as caught:
        work.pull("acme/tiny")
    causes = {errno.ENOSPC: "disk full", errno.EDQUOT: "disk quota"}
    assert caught.value.facts["cause"] == causes.get(number, os.strerror(number).lower())
    assert ("quota" in caught.value.message) == (number == errno.EDQUOT)
    assert "/some/path" not in caught.value.message
    _assert_nothing_visible(work)
    assert sum(part.stat().st_size for part in work.parts()) > 1_000_000
    monkeypatch.setattr(os, "pwrite", whole_write)
    work.hub.seen.clear()
    work.pull("acme/tiny")
    assert work.hub.sent() < 2_000_000
    assert work.files("acme/tiny")["model.safetensors"] == tiny.files["model.safetensors"]


def _failing_after(real: Any, calls: int) -> Any:
    left = calls

    def call(*args: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.EIO, "Input/output error")
        return real(*args, **named)

    return call


@pytest.mark.parametrize("function", ["fsync", "replace", "symlink", "makedirs", "open", "pwrite", "write"])
def test_every_single_disk_call_may_fail(work: Workplace, tiny: Repo, function: str, monkeypatch: Any) -> None:
    """Fails the 1st, 2nd, … call in turn: each time an error and no model, until there is nothing left to fail."""
    tiny.files = {
        "config.json": tiny.files["config.json"],
        "tokenizer.json": models.TOKENIZER,
        "1_Pooling/config.json": b"{}",
        "model.safetensors": models.safetensors({"w": ("F32", (1000,))}),
    }
    for calls in range(100):
        shutil.rmtree(work.cache)
        work.cache.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(os, function, _failing_after(getattr(os, function), calls))
            try:
                work.pull("acme/tiny")
                break
            except TransferError:
                pass
        if work.refs():  # only the very last step, making the ref durable, may fail after it is visible
            assert function in ("fsync", "open")
            assert work.files("acme/tiny") == tiny.files
        else:
            _assert_nothing_visible(work)
    assert 0 < calls < 99
    assert work.files("acme/tiny") == tiny.files


def test_a_crash_between_links_leaves_only_links(work: Workplace, tiny: Repo, monkeypatch: Any) -> None:
    """Whatever a killed pull leaves in the folder of a commit are files of the model: other tools look there, too."""

    def crash(temporary: str, path: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hugging_llama.store.durable.rename", crash)
        with pytest.raises(KeyboardInterrupt):
            work.pull("acme/tiny")
    (snapshot,) = work.cache.glob("models--acme--tiny/snapshots/*")
    assert {path.name for path in snapshot.iterdir()} <= models.KEPT
    _assert_nothing_visible(work)


def test_a_link_to_something_else_is_replaced(work: Workplace, tiny: Repo) -> None:
    work.pull("acme/tiny")
    (snapshot,) = work.cache.glob("models--acme--tiny/snapshots/*")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("/nowhere")
    (snapshot / "tokenizer.json").unlink()
    (snapshot / "tokenizer.json").write_text("something else")
    work.pull("acme/tiny")
    assert work.files("acme/tiny") == {path: tiny.files[path] for path in models.KEPT}
