"""Pulls as the server runs them: in child processes that may be killed, shared, left, or started under gevent."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hugging_llama.errors import GatedModelError, HuggingLlamaError, InvalidRequestError, TransferError
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store import child_process, child_stream, pull_process
from hugging_llama.store.pull_slots import PullSlots
from hugging_llama.store.pull_stream import PullStream, pull
from tests.hub_server import Allowance, Repo
from tests.store import models
from tests.store.conftest import QUICK, Workplace

SIZE = 20_000_000


@pytest.fixture
def tiny(work: Workplace) -> Repo:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model(SIZE))
    return work.hub.repos["acme/tiny"]


def _start(work: Workplace) -> PullStream:
    return pull(work.settings, work.store, "acme/tiny", policy=QUICK)


def _child(stream: PullStream) -> "subprocess.Popen[bytes]":
    assert stream._connection
    return stream._connection._child


def _read_until(stream: PullStream, arrived: int) -> TransferProgress:
    return next(event for event in stream if event.file == "model.safetensors" and event.completed_bytes >= arrived)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _is_gone(pid: int) -> bool:
    """Whether it ends, which may take a busy machine a while."""
    return _within_a_minute(lambda: not _is_alive(pid))


def _within_a_minute(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_a_whole_pull(work: Workplace, tiny: Repo) -> None:
    stream = _start(work)
    events = list(stream)
    assert (events[0].status, events[-1].status) == ("pulling manifest", "success")
    assert work.files("acme/tiny")["model.safetensors"] == tiny.files["model.safetensors"]
    assert list(stream) == []


def test_one_whose_process_can_not_be_started_says_why(
    work: Workplace, tiny: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_stream, "own_python", lambda: str(work.cache / "gone"))
    with pytest.raises(TransferError, match="the download can't be started: No such file or directory"):
        list(_start(work))


def test_killed_again_and_again(work: Workplace, tiny: Repo) -> None:
    content = tiny.files["model.safetensors"]
    kept: list[int] = []
    for fraction in (0.2, 0.4, 0.6, 0.8):
        # never whole before the kill, however late that comes
        work.hub.fault("/_cdn/", "stall", int(fraction * len(content)) - (kept[-1] if kept else 0) + 2_000_000)
        stream = _start(work)
        _read_until(stream, int(fraction * len(content)))
        os.kill(_child(stream).pid, signal.SIGKILL)
        with pytest.raises(TransferError, match="ended unexpectedly"):
            list(stream)
        kept.append(work.parts()[0].stat().st_size)
        assert kept[-1] >= fraction * len(content)
        assert work.refs() == []
        assert [model.ref.name for model in work.store.list()] == ["hugging-llama/demo:latest"]
    assert list(_start(work))[-1].status == "success"
    assert work.files("acme/tiny")["model.safetensors"] == content
    # what is on disk is not asked for again; what the Hub had sent into the sockets of the killed is lost, however much
    assert [seen.range for seen in work.hub.requests("/_cdn/")] == ["", *(f"bytes={size}-" for size in kept)]
    assert work.parts() == []


def _arrived(events: list[TransferProgress]) -> int:
    return max((event.completed_bytes for event in events if event.file == "model.safetensors"), default=0)


def test_two_processes_share_one_download(work: Workplace, tiny: Repo) -> None:
    allowance = Allowance(0)
    work.hub.fault("/_cdn/", "held", allowance)
    streams = [_start(work), _start(work)]
    results: list[list[TransferProgress]] = [[], []]
    threads = [threading.Thread(target=lambda i=i: results[i].extend(streams[i])) for i in range(2)]
    for thread in threads:
        thread.start()
    for step in (5_000_000, 10_000_000):  # both see it grow
        allowance.raise_to(step)
        assert _within_a_minute(lambda: all(_arrived(events) > step - 100_000 for events in results))  # noqa: B023
    allowance.raise_to()
    for thread in threads:
        thread.join()
    size = len(tiny.files["model.safetensors"])
    assert work.hub.sent() == size
    for events in results:
        counts = [event.completed_bytes for event in events if event.file == "model.safetensors"]
        assert counts == sorted(counts)
        assert len({count for count in counts if 0 < count < size}) >= 2
        assert events[-1].status == "success"


def test_other_tools_wait_for_our_download(work: Workplace, tiny: Repo) -> None:
    """huggingface_hub takes the same lock, so that it finds the file whole when its turn comes."""
    work.hub.fault("/_cdn/", "slow", 10_000_000)
    stream = _start(work)
    _read_until(stream, 1_000_000)
    code = f"""
        from huggingface_hub import snapshot_download
        options = dict(cache_dir={str(work.cache)!r}, endpoint={work.hub.endpoint!r}, token=False)
        print(snapshot_download("acme/tiny", allow_patterns=["model.safetensors", "*.json"], **options))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as other:
        assert list(stream)[-1].status == "success"
        folder = other.communicate(timeout=120)[0].strip()
    assert folder == work.store.resolve("acme/tiny").ref.path
    assert sum(seen.sent for seen in work.hub.requests("GET /_cdn/")) == len(tiny.files["model.safetensors"])


def test_the_waiter_goes_on_when_the_first_one_leaves(work: Workplace, tiny: Repo) -> None:
    allowance = Allowance(4_000_000)
    work.hub.fault("/_cdn/", "held", allowance)
    first = _start(work)
    _read_until(first, 3_900_000)
    second = _start(work)
    _read_until(second, 3_900_000)
    allowance.raise_to(5_000_000)
    _read_until(second, 4_900_000)
    first.close()
    assert list(second)[-1].status == "success"
    assert work.hub.sent() <= len(tiny.files["model.safetensors"]) + 10**6
    assert list(first) == []


def test_closing_stops_the_child_and_keeps_the_part(work: Workplace, tiny: Repo) -> None:
    work.hub.fault("/_cdn/", "stall", 4_000_000)
    stream = _start(work)
    _read_until(stream, 3_000_000)
    pid = _child(stream).pid
    stream.close()
    stream.close()
    assert _is_gone(pid)
    assert sum(part.stat().st_size for part in work.parts()) >= 3_000_000
    assert work.refs() == []


def test_the_transfer_ends_with_the_last_waiter(work: Workplace, tiny: Repo) -> None:
    allowance = Allowance(2_000_000)
    work.hub.fault("/_cdn/", "stall", 4_000_000)
    work.hub.fault("/_cdn/", "held", allowance)
    work.hub.fault("/_cdn/", "stall", 300_000, times=9)
    streams = [_start(work) for _ in range(3)]
    for stream in streams:
        _read_until(stream, 3_900_000)
    pids = [_child(stream).pid for stream in streams]
    streams[0].close()
    for stream in streams[1:]:  # either has taken over
        _read_until(stream, 5_850_000)
    streams[1].close()
    allowance.raise_to(2_300_000)
    _read_until(streams[2], 6_050_000)  # the last one has, or went on
    assert _is_alive(pids[2])
    streams[2].close()
    assert all(map(_is_gone, pids))
    (part,) = work.parts()
    assert 5_000_000 <= part.stat().st_size < len(tiny.files["model.safetensors"])
    assert work.refs() == []
    assert work.hub.sent() <= part.stat().st_size + 10**6


def test_closing_wakes_a_blocked_next(work: Workplace, tiny: Repo) -> None:
    work.hub.fault("/revision/", "stall", 0, times=9)
    stream = _start(work)
    next(stream)
    timer = threading.Timer(0.3, stream.close)
    timer.start()
    started = time.monotonic()
    list(stream)
    assert time.monotonic() - started < 60
    timer.join()


def test_a_stream_that_was_never_read_starts_nothing(work: Workplace, tiny: Repo) -> None:
    for events in (0, 1):
        stream = _start(work)
        for _ in range(events):
            next(stream)
        stream.close()
        assert stream._connection is None
        assert list(stream) == []
    assert work.hub.seen == []


def test_something_is_said_while_nothing_happens(work: Workplace, tiny: Repo) -> None:
    slow = dataclasses.replace(QUICK, read_timeout_s=600.0)
    work.hub.fault("/_cdn/", "stall", 1_000_000)
    stream = pull(work.settings, work.store, "acme/tiny", policy=slow)
    _read_until(stream, 1)
    started = time.monotonic()
    next(stream)
    next(stream)
    assert time.monotonic() - started < 60
    stream.close()


def test_only_so_many_at_once(work: Workplace, tiny: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hugging_llama.store.child_stream.HEARTBEAT_S", 0.05)
    store = work.store
    store.pull_slots = PullSlots(1)
    work.hub.fault("/_cdn/", "slow", 20_000_000)
    first, second = (pull(work.settings, store, "acme/tiny", policy=QUICK) for _ in range(2))
    _read_until(first, 1)
    assert {next(second).status for _ in range(5)} == {"pulling manifest"}
    assert second._connection is None
    first.close()
    assert list(second)[-1].status == "success"
    assert list(pull(work.settings, store, "acme/tiny", policy=QUICK))[-1].status == "success"


@pytest.mark.parametrize(
    ("name", "access", "kind"),
    [("acme/tiny:v9", "public", InvalidRequestError), ("acme/tiny", "gated", GatedModelError)],
)
def test_errors_cross_with_their_facts(
    work: Workplace, tiny: Repo, name: str, access: str, kind: type[HuggingLlamaError]
) -> None:
    tiny.access = access
    stream = pull(work.settings, work.store, name, policy=QUICK)
    with pytest.raises(HuggingLlamaError) as caught:
        list(stream)
    assert type(caught.value) is kind
    assert caught.value.facts
    assert list(stream) == []


def test_the_child_dies_with_its_parent(work: Workplace, tiny: Repo) -> None:
    """However the parent ends; here it is killed while the child waits for a Hub that says nothing."""
    work.hub.fault("/revision/", "stall", 0, times=9)
    code = f"""
        import sys
        from hugging_llama.store.local import Store
        from hugging_llama.store.pull_stream import pull
        from hugging_llama_config.settings import Settings
        settings = Settings(hub_cache={str(work.cache)!r}, hub_endpoint={work.hub.endpoint!r})
        stream = pull(settings, Store(settings), "acme/tiny")
        next(stream), next(stream)
        print(stream._connection._child.pid, flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert _is_alive(pid)
        parent.kill()
    assert _is_gone(pid)


def test_the_token_is_not_in_the_command_line(work: Workplace, tiny: Repo) -> None:
    work.token = "hf_secret_token"
    work.hub.fault("/_cdn/", "stall", 2_000_000)
    stream = _start(work)
    _read_until(stream, 1_000_000)
    pid = _child(stream).pid
    assert b"hf_secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"hf_secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert "hf_secret" not in repr(work.request("acme/tiny"))
    stream.close()


def test_the_child_imports_no_server(work: Workplace) -> None:
    code = "import sys, hugging_llama.store.pull_process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "flask", "gevent"} & set(loaded)


def test_messages_are_read_back(work: Workplace) -> None:
    request = work.request("acme/tiny:v1", allow_code=True)
    assert pull_process._parse_request(child_process.render_request(request)) == request
    assert child_process.parse_message(b'{"done": true}') is None
    error = child_process.parse_message(b'{"error": {"code": "transfer", "message": "m", "facts": {"repo": "r"}}}')
    assert isinstance(error, TransferError)


def test_a_full_disk(work: Workplace, tiny: Repo, tmp_path: Path) -> None:
    """A real one: a file system of 8 MB, whose free space seems to suffice when the pull starts."""
    if os.getuid() != 0:
        pytest.skip("needs to mount a file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(work.cache)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("can't mount a file system here")
    try:
        allowance = Allowance(3_000_000)
        work.hub.fault("/_cdn/", "held", allowance)
        stream = _start(work)
        _read_until(stream, 2_900_000)
        with contextlib.suppress(OSError):
            (work.cache / "other").write_bytes(bytes(2**25))  # somebody else fills it
        allowance.raise_to(3_500_000)
        with pytest.raises(TransferError) as caught:
            list(stream)
        assert caught.value.facts == {"repo": "acme/tiny", "cause": "disk full"}
        assert work.refs() == []
        (work.cache / "other").unlink()
        assert list(_start(work))[-1].status == "success"
        assert work.hub.sent() <= len(tiny.files["model.safetensors"]) + 10**6
    finally:
        subprocess.run(["umount", str(work.cache)], check=True)


_STALLED = """
import sys, threading
from hugging_llama.errors import TransferError
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store import child_process

def work(line):
    yield TransferProgress(status="downloading")
    threading.Event().wait()

child_process.serve(int(sys.argv[1]), work, TransferError("it failed", cause="internal"))
"""


def test_a_parent_that_is_killed_before_it_has_read_all_is_noticed() -> None:
    """The kernel then says that the connection was reset, not that it ended."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen(
            [sys.executable, "-c", _STALLED, str(theirs.fileno())], pass_fds=[theirs.fileno()], stderr=subprocess.PIPE
        )
        theirs.close()
        ours.settimeout(60)
        ours.sendall(b"{}\n")
        assert ours.recv(1, socket.MSG_PEEK)
    try:
        assert child.communicate(timeout=120)[1] == b""
    finally:
        child.kill()
