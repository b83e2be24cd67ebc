"""Answers that are kept: conversations, bounds, several processes at once, and files that are damaged or full."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hugging_llama.errors import StorageError
from hugging_llama.neutral.stored import StoredItem, StoredResponse
from hugging_llama.store.responses import ResponseStore
from hugging_llama_config.settings import Settings

DAY_S = 86400.0


def response(name: str, previous: str | None = None, *, size: int = 10) -> StoredResponse:
    return StoredResponse(
        id=name,
        previous_id=previous,
        body=b"{}",
        input=(StoredItem(f"asked-{name}", f"?{name}?".encode() * size),),
        output=(StoredItem(f"said-{name}", f"!{name}!".encode() * size),),
    )


def said(store: ResponseStore, name: str) -> list[str] | None:
    found = store.find(name)
    return None if found is None else [item.id for item in (*found.input, *found.output)]


def rows(home: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(home / "responses.db")) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def store(tmp_path: Path) -> ResponseStore:
    return ResponseStore(str(tmp_path), 2**20, DAY_S)


def test_a_conversation(store: ResponseStore) -> None:
    assert store.find("a") is None
    store.save(response("a"))
    store.save(response("b", "a"))
    store.save(response("c", "b"))
    store.save(response("other", "a"))
    assert said(store, "c") == ["asked-a", "said-a", "asked-b", "said-b", "asked-c", "said-c"]
    assert said(store, "other") == ["asked-a", "said-a", "asked-other", "said-other"]
    found = store.find("b")
    assert found is not None
    assert (found.body, found.previous_id, found.output) == (b"{}", "a", response("b").output)
    assert store.items(["said-a", "asked-c", "nothing"]) == {
        "said-a": response("a").output[0].body,
        "asked-c": response("c").input[0].body,
    }


def test_what_is_deleted_is_gone_once_nothing_goes_on_from_it(store: ResponseStore, tmp_path: Path) -> None:
    for name, previous in (("a", None), ("b", "a"), ("c", "b")):
        store.save(response(name, previous))
    assert store.delete("b")
    assert not store.delete("b")
    assert said(store, "b") is None
    assert said(store, "c") == ["asked-a", "said-a", "asked-b", "said-b", "asked-c", "said-c"]
    found = store.find("c")
    assert found is not None
    assert found.previous_id is None
    assert store.delete("c")
    assert said(store, "a") == ["asked-a", "said-a"]
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"!a!" in content
    assert b"!b!" not in content
    assert b"!c!" not in content
    assert store.delete("a")
    assert rows(tmp_path, "SELECT * FROM totals") == [(0, 0)]
    assert rows(tmp_path, "SELECT count(*) FROM items") == [(0,)]


def test_of_an_item_that_came_twice_the_newer_one_is_found(store: ResponseStore) -> None:
    twice, once = [f"twice-{number}" for number in range(20)], [f"once-{number}" for number in range(20)]
    for name, ids in (("old", twice + once), ("new", twice)):
        items = tuple(StoredItem(id, name.encode()) for id in ids)
        store.save(StoredResponse(id=name, previous_id=None, body=b"{}", input=items, output=()))
    assert store.items([*twice, *once]) == dict.fromkeys(twice, b"new") | dict.fromkeys(once, b"old")


def test_the_oldest_leave_first_when_there_are_too_many(tmp_path: Path) -> None:
    store = ResponseStore(str(tmp_path), 2**20, DAY_S, max_responses=3)
    for name in "abcde":
        store.save(response(name))
    assert [name for name in "abcde" if store.find(name)] == ["c", "d", "e"]


def test_the_oldest_leave_first_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    store = ResponseStore(str(tmp_path), 10_000, DAY_S)
    for name in "abcdefghijklmnopqrst":
        store.save(response(name, size=300))
        ((num_bytes,),) = rows(tmp_path, "SELECT num_bytes FROM totals")
        assert num_bytes <= 10_000
    assert [name for name in "abcdefghijklmnopqrst" if store.find(name)] == ["p", "q", "r", "s", "t"]
    assert (tmp_path / "responses.db").stat().st_size < 60_000


def test_long_ids_count_as_often_as_they_are_written(tmp_path: Path) -> None:
    store = ResponseStore(str(tmp_path), 2**20, DAY_S)
    for turn in range(20):
        items = tuple(StoredItem(f"{turn}-{number}-" + "\N{LLAMA}" * 190, b"") for number in range(200))
        store.save(StoredResponse(id=f"r{turn}", previous_id=None, body=b"{}", input=items, output=()))
    assert (tmp_path / "responses.db").stat().st_size < 1.5 * 2**20


def test_a_conversation_that_is_larger_than_all_is_not_kept_and_drives_nobody_out(tmp_path: Path) -> None:
    store = ResponseStore(str(tmp_path), 10_000, DAY_S)
    store.save(response("other"))
    store.save(response("a", size=800))
    with pytest.raises(StorageError, match="more than 10000 bytes"):
        store.save(response("b", "a", size=1000))
    assert said(store, "a")
    assert said(store, "other")
    assert store.find("b") is None


def test_what_is_too_old_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ResponseStore(str(tmp_path), 2**20, DAY_S)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - DAY_S - 1)
    store.save(response("old"))
    store.save(response("base"))
    monkeypatch.setattr(time, "time", lambda: now - DAY_S / 2)
    store.save(response("young", "base"))
    monkeypatch.setattr(time, "time", lambda: now)
    assert store.find("old") is None
    assert not store.delete("old")
    assert said(store, "young") == ["asked-base", "said-base", "asked-young", "said-young"]
    store.tidy()
    assert rows(tmp_path, "SELECT id FROM responses ORDER BY number") == [(None,), ("young",)]
    with pytest.raises(StorageError, match="gone meanwhile"):
        store.save(response("late", "base"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("sssd"), st.integers(0, 30)), max_size=40))
def test_any_order_of_things(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    home = tmp_path_factory.mktemp("home")
    store = ResponseStore(str(home), 2**20, DAY_S)
    alive: dict[str, list[str]] = {}
    for number, (step, choice) in enumerate(steps):
        chosen = sorted(alive)[choice % len(alive)] if alive and choice else None
        if step == "s":
            name = f"r{number}"
            store.save(response(name, chosen))
            alive[name] = [*(alive[chosen] if chosen else []), f"asked-{name}", f"said-{name}"]
        elif chosen:
            assert store.delete(chosen)
            del alive[chosen]
    assert {name: said(store, name) for name in alive} == alive
    if steps and any(step == "s" for step, _ in steps):
        assert rows(home, "SELECT num_responses, num_bytes FROM totals") == rows(
            home, "SELECT count(id), coalesce(sum(num_bytes), 0) FROM responses"
        )
        needed = {item for items in alive.values() for item in items}
        assert {id for (id,) in rows(home, "SELECT id FROM items")} == needed


def test_without_a_home_nothing_is_kept(tmp_path: Path) -> None:
    for store in (ResponseStore(), ResponseStore.of(Settings(home=str(tmp_path), store_responses=False))):
        assert not store.is_on
        with pytest.raises(StorageError):
            store.save(response("a"))
        assert store.find("a") is None
    assert list(tmp_path.iterdir()) == []
    assert ResponseStore.of(Settings(home=str(tmp_path))).is_on


def test_nobody_else_may_read_it(store: ResponseStore, tmp_path: Path) -> None:
    store.save(response("a"))
    assert (tmp_path / "responses.db").stat().st_mode & 0o077 == 0


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _rubbish(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _hole(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_rubbish, _cut, _hole, _zero])
def test_a_damaged_file_is_put_aside(
    store: ResponseStore, tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(20):
        store.save(response(f"r{number}", size=200))
    damage(tmp_path / "responses.db")
    store.save(response("new"))
    assert said(store, "new") == ["asked-new", "said-new"]
    assert "put aside" in caplog.text
    assert (tmp_path / "responses.db.damaged").exists()
    assert rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]


def test_the_file_of_a_later_version_is_left_alone(store: ResponseStore, tmp_path: Path) -> None:
    store.save(response("a"))
    rows(tmp_path, "PRAGMA user_version = 9")
    before = (tmp_path / "responses.db").read_bytes()
    for use in (lambda: store.save(response("b")), lambda: store.find("a"), lambda: store.delete("a")):
        with pytest.raises(StorageError, match="format 9"):
            use()
    assert (tmp_path / "responses.db").read_bytes() == before


def test_the_file_of_an_earlier_version_is_taken_over(store: ResponseStore, tmp_path: Path) -> None:
    store.save(response("a"))
    rows(tmp_path, "ALTER TABLE responses DROP COLUMN owner")
    rows(tmp_path, "PRAGMA user_version = 1")
    assert said(store, "a") == ["asked-a", "said-a"]
    store.save(response("b", "a"))
    assert said(store, "b") == ["asked-a", "said-a", "asked-b", "said-b"]
    assert rows(tmp_path, "PRAGMA user_version") == [(2,)]


def test_an_answer_is_there_for_its_owner_alone(store: ResponseStore) -> None:
    store.save(response("a"), "one")
    assert store.find("a", "one") is not None
    assert (store.find("a"), store.find("a", "two"), store.delete("a", "two")) == (None, None, False)
    assert (store.items(["said-a"], "two"), [*store.items(["said-a"], "one")]) == ({}, ["said-a"])
    with pytest.raises(StorageError, match="gone"):
        store.save(response("b", "a"), "two")
    assert store.delete("a", "one")


def test_what_can_not_be_opened_is_told(store: ResponseStore, tmp_path: Path) -> None:
    (tmp_path / "responses.db").mkdir()
    with pytest.raises(StorageError, match="unable to open"):
        store.save(response("a"))


_COMMON = """
    import sys
    from hugging_llama.errors import StorageError
    from hugging_llama.store import response_file
    from hugging_llama.store.responses import ResponseStore
    from tests.store.test_responses import response
    response_file._BUSY_TIMEOUT_S = 120.0
    store = ResponseStore(sys.argv[1], 2**26, 1e6)
"""
_WRITER = """
    for number in range(int(sys.argv[3])):
        store.save(response(f"{sys.argv[2]}-{number}", size=400))
        print(f"{sys.argv[2]}-{number}", flush=True)
"""
_FULL = """
    import resource, os
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    for number in range(1000):
        try:
            store.save(response(f"r{number}", size=1000))
        except StorageError as error:
            print(number, error)
            break
    assert store.find(f"r{number}") is None
    assert all(store.find(f"r{before}") for before in range(number))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.save(response("after"))
    assert store.find("after")
"""
_GEVENT = """
    import gevent.monkey
    gevent.monkey.patch_all()
    import gevent, sqlite3, threading
    from hugging_llama.store import response_file
    main = gevent.monkey.get_original("threading", "get_ident")()
    inside = []
    transact = response_file._transact
    def seen(*args, **kwargs):
        inside.append(gevent.monkey.get_original("threading", "get_ident")() != main)
        return transact(*args, **kwargs)
    response_file._transact = seen
    jobs = [gevent.spawn(store.save, response(f"r{number}")) for number in range(30)]
    gevent.joinall(jobs, raise_error=True)
    assert all(store.find(f"r{number}") for number in range(30))
    assert len(inside) >= 60 and all(inside)  # and those that found no file yet
"""


def _python(script: str, *args: str) -> subprocess.Popen[str]:
    text = textwrap.dedent(_COMMON) + textwrap.dedent(script)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, "-c", text, *args], env=environ, stdout=subprocess.PIPE, text=True)


def test_several_processes_at_once(store: ResponseStore, tmp_path: Path) -> None:
    writers = [_python(_WRITER, str(tmp_path), f"w{number}", "25") for number in range(4)]
    for writer in writers:
        assert len(writer.communicate(timeout=120)[0].split()) == 25
        assert writer.returncode == 0
    assert rows(tmp_path, "SELECT num_responses FROM totals") == [(100,)]
    assert all(store.find(f"w{writer}-{number}") for writer in range(4) for number in range(25))


@pytest.mark.parametrize("count", [1, 7, 30])
def test_a_process_that_is_killed_leaves_what_it_had_kept(store: ResponseStore, tmp_path: Path, count: int) -> None:
    writer = _python(_WRITER, str(tmp_path), "w", "100000")
    assert writer.stdout
    told = [writer.stdout.readline().strip() for _ in range(count)]
    writer.send_signal(signal.SIGKILL)
    told += writer.communicate(timeout=60)[0].split()[:-1]
    assert all(store.find(name) for name in told)
    store.save(response("after"))
    assert rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]


def test_a_full_disk_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    child = _python(_FULL, str(tmp_path))
    out = child.communicate(timeout=120)[0]
    assert child.returncode == 0, out
    assert "the stored responses can't be used now" in out
    assert int(out.split()[0]) > 5


def test_under_gevent_the_file_is_used_in_real_threads(tmp_path: Path) -> None:
    child = _python(_GEVENT, str(tmp_path))
    out = child.communicate(timeout=120)[0]
    assert child.returncode == 0, out
