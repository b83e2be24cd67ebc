"""Pulls that go wrong: each fault is healed or told, and only a whole model is ever seen."""

import itertools
import os
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.errors import (
    GatedModelError,
    HuggingLlamaError,
    InvalidRequestError,
    KeyRejectedError,
    ModelNotFoundError,
    TransferError,
)
from hugging_llama.store import hub_http
from hugging_llama.store.file_lock import FileLock
from hugging_llama.store.names import parse_name
from hugging_llama.store.pull import PullRequest, pull_files
from hugging_llama.store.retry import RetryPolicy, TransientError
from tests.hub_server import Fault, Repo
from tests.store import models
from tests.store.conftest import QUICK, Workplace

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


HEALED = [("status", 408), ("cut", 0), ("no_range", None), ("extra", None)]  # others are in the matrix


@pytest.mark.parametrize(("mode", "arg"), HEALED)
def test_a_fault_that_goes_away(work: Workplace, tiny: Repo, mode: str, arg: Any) -> None:
    work.hub.fault("/_cdn/", mode, arg)
    assert work.pull("acme/tiny")[-1].status == "success"
    assert work.files("acme/tiny")["model.safetensors"] == tiny.files["model.safetensors"]
    assert work.parts() == []


@pytest.mark.parametrize(("mode", "arg"), [("status", 503), ("status", 429), ("cut", 0), ("corrupt", None)])
def test_small_files_heal_too(work: Workplace, tiny: Repo, mode: str, arg: Any) -> None:
    work.hub.fault("/resolve/.*/config.json", mode, arg)
    assert work.pull("acme/tiny")[-1].status == "success"
    assert work.files("acme/tiny")["config.json"] == tiny.files["config.json"]


def test_a_cut_is_resumed_not_repeated(work: Workplace, tiny: Repo) -> None:
    work.hub.fault("/_cdn/", "cut", 1_000_000, times=2)
    work.pull("acme/tiny")
    assert work.hub.sent() == len(tiny.files["model.safetensors"])
    first, *others = work.hub.requests("/_cdn/")
    assert first.range == ""
    assert len(others) == 2
    assert all(seen.range.startswith("bytes=") for seen in others)


def test_progress_renews_the_budget(work: Workplace, tiny: Repo) -> None:
    work.hub.fault("/_cdn/", "cut", 300_000, times=9)  # more often than QUICK.attempts
    assert work.pull("acme/tiny")[-1].status == "success"


def test_a_hub_without_ranges_restarts(work: Workplace, tiny: Repo) -> None:
    work.hub.fault("/_cdn/", "cut", 1_000_000)
    work.hub.fault("/_cdn/", "no_range")
    assert work.pull("acme/tiny")[-1].status == "success"
    assert work.files("acme/tiny")["model.safetensors"] == tiny.files["model.safetensors"]


def test_a_stale_part_is_healed(work: Workplace, tiny: Repo) -> None:
    work.hub.fault("/_cdn/", "cut", 1_000_000)
    work.hub.fault("/_cdn/", "status", 503, times=99)
    with pytest.raises(TransferError):
        work.pull("acme/tiny")
    work.hub.faults.clear()
    (part,) = work.parts()
    assert part.stat().st_size > 900_000
    part.write_bytes(b"rubbish" * 1000)
    assert work.pull("acme/tiny")[-1].status == "success"
    assert work.files("acme/tiny")["model.safetensors"] == tiny.files["model.safetensors"]


@pytest.mark.parametrize("size", [-5, 0, 1, 5])
def test_parts_of_odd_sizes(work: Workplace, tiny: Repo, size: int) -> None:
    content = tiny.files["model.safetensors"]
    work.hub.fault("/_cdn/", "corrupt", times=99)
    with pytest.raises(TransferError):
        work.pull("acme/tiny")
    work.hub.faults.clear()
    (part,) = work.parts()
    part.write_bytes(content[: len(content) + size] + b"x" * max(0, size))
    assert work.pull("acme/tiny")[-1].status == "success"
    assert work.files("acme/tiny")["model.safetensors"] == content


def test_corrupt_for_ever_is_refused(work: Workplace, tiny: Repo) -> None:
    work.hub.fault("/_cdn/", "corrupt", times=99)
    with pytest.raises(TransferError, match="digest") as caught:
        work.pull("acme/tiny")
    assert caught.value.facts == {"cause": "digest mismatch", "repo": "acme/tiny"}
    assert len(work.hub.requests("/_cdn/")) == 2
    _assert_nothing_visible(work)


@pytest.mark.parametrize("where", ["/revision/", "/tree/", "/resolve/.*config.json", "/_cdn/"])
@pytest.mark.parametrize(("mode", "arg"), [("status", 503), ("status", 418)])
def test_faults_that_stay_are_told(work: Workplace, tiny: Repo, where: str, mode: str, arg: Any) -> None:
    work.hub.fault(where, mode, arg, times=99)
    started = time.monotonic()
    with pytest.raises(TransferError) as caught:
        work.pull("acme/tiny")
    assert time.monotonic() - started < 60
    assert caught.value.facts["repo"] == "acme/tiny"
    assert max(Counter(seen.path for seen in work.hub.requests(where)).values()) <= QUICK.attempts
    assert "0x" not in caught.value.message
    _assert_nothing_visible(work)


@pytest.mark.parametrize("header", [{"Retry-After": "1"}, {"RateLimit": '"resolvers";r=0;t=1'}])
def test_retry_after_is_honoured(work: Workplace, tiny: Repo, header: dict[str, str]) -> None:
    work.hub.faults.append(Fault("/_cdn/", "status", 429, headers=header))
    started = time.monotonic()
    work.pull("acme/tiny")
    assert time.monotonic() - started >= 1


def test_waits_grow_and_end() -> None:
    policy, error = RetryPolicy(), TransientError("x")
    waits = [policy.wait_s(failures, error) for failures in range(1, 6)]
    assert 0.4 <= waits[0] <= 0.6
    assert max(waits) <= policy.max_wait_s * 1.2
    assert sum(waits) < 25
    assert policy.wait_s(1, TransientError("x", retry_after_s=10_000)) == policy.max_retry_after_s


REFUSALS: list[tuple[str, str, str, type[HuggingLlamaError], dict[str, Any]]] = [
    ("nobody/tiny", "public", "", ModelNotFoundError, {"name": "nobody/tiny:latest"}),
    ("acme/tiny:v9", "public", "", InvalidRequestError, {"param": "revision"}),
    ("acme/tiny", "private", "", ModelNotFoundError, {"canonical": "acme/tiny:latest"}),
    ("acme/tiny", "private", "hf_other", ModelNotFoundError, {"name": "acme/tiny:latest"}),
    ("acme/tiny", "gated", "", GatedModelError, {"repo": "acme/tiny"}),
    ("acme/tiny", "gated", "hf_other", GatedModelError, {"repo": "acme/tiny"}),
    ("acme/tiny", "public", "hf_bad", KeyRejectedError, {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "access", "token", "kind", "facts"), REFUSALS)
def test_refusals(
    work: Workplace,
    tiny: Repo,
    name: str,
    access: str,
    token: str,
    kind: type[HuggingLlamaError],
    facts: dict[str, Any],
) -> None:
    tiny.access, work.token = access, token
    with pytest.raises(HuggingLlamaError) as caught:
        work.pull(name)
    assert type(caught.value) is kind
    assert facts.items() <= caught.value.facts.items()
    if kind is GatedModelError:
        assert caught.value.facts["url"] == f"{work.hub.endpoint}/acme/tiny"
    if token:
        assert token not in caught.value.message
    _assert_nothing_visible(work)


def test_a_repository_without_safetensors(work: Workplace) -> None:
    work.hub.repos["acme/gguf"] = Repo({"model.Q4.gguf": b"GGUF", "config.json": b"{}"})
    with pytest.raises(TransferError, match="GGUF"):
        work.pull("acme/gguf")
    assert work.hub.requests("/resolve/") == []


def test_a_repository_without_configuration(work: Workplace) -> None:
    work.hub.repos["acme/odd"] = Repo({"model.safetensors": models.safetensors({"w": ("F32", (10,))})})
    with pytest.raises(TransferError, match=r"no config\.json"):
        work.pull("acme/odd")
    assert work.hub.requests("/resolve/") == []


@pytest.mark.parametrize("token", ["hf_a\nX-Evil: 1", "hf_é", "hf a", "hf_\0"])
def test_a_token_that_is_none(work: Workplace, tiny: Repo, token: str) -> None:
    work.token = token
    with pytest.raises(KeyRejectedError) as caught:
        work.pull("acme/tiny")
    assert token not in caught.value.message
    assert work.hub.seen == []


def test_a_password_in_the_endpoint_stays_secret() -> None:
    access = hub_http.HubAccess(endpoint="https://me:secret@mirror.example:8443/hf")
    assert access.host == "mirror.example:8443"
    assert access.public_endpoint == "https://mirror.example:8443/hf"


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://no-such-host.invalid", "https://127.0.0.1:1"])
def test_no_hub_there(work: Workplace, endpoint: str) -> None:
    request = PullRequest(
        name=parse_name("acme/tiny"), cache=str(work.cache), access=hub_http.HubAccess(endpoint=endpoint), policy=QUICK
    )
    started = time.monotonic()
    with pytest.raises(TransferError, match=endpoint.partition("//")[2].partition(":")[0]) as caught:
        list(pull_files(request))
    assert time.monotonic() - started < 120  # looking a name up may take long
    assert "0x" not in caught.value.message


def test_a_refused_connection_is_no_late_one(work: Workplace) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        access = hub_http.HubAccess(endpoint=f"http://me:secret@{host}")
        request = PullRequest(name=parse_name("acme/tiny"), cache=str(work.cache), access=access, policy=QUICK)
        with pytest.raises(TransferError) as caught:
            list(pull_files(request))
    assert caught.value.message == f"can't reach {host}: connection refused"


@pytest.mark.parametrize("endpoint", ["", "file:///etc", "ftp://x", "http://", "http://x:99999999"])
def test_an_endpoint_that_is_no_url(work: Workplace, endpoint: str) -> None:
    request = PullRequest(
        name=parse_name("acme/tiny"), cache=str(work.cache), access=hub_http.HubAccess(endpoint=endpoint), policy=QUICK
    )
    with pytest.raises(TransferError, match="not an http"):
        list(pull_files(request))


def test_offline_mode_contacts_nobody(work: Workplace, tiny: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TransferError, match="offline") as caught:
        work.pull("acme/tiny")
    assert "stays usable" not in caught.value.message
    assert work.hub.seen == []


def test_offline_mode_leaves_what_is_here(work: Workplace, tiny: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    work.pull("acme/tiny")
    model = work.store.resolve("acme/tiny")
    work.hub.seen.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TransferError, match=r"HF_HUB_OFFLINE.*acme/tiny:latest as it is here stays usable"):
        work.pull("acme/tiny")
    assert work.store.resolve("acme/tiny") == model
    assert work.hub.seen == []


def test_a_clock_that_jumps(work: Workplace, tiny: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day is set back and forth at every look."""
    jumps = itertools.cycle([0.0, 4e9, 1.0])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    work.hub.fault("/_cdn/", "cut", 1_000_000)
    assert work.pull("acme/tiny")[-1].status == "success"
    monkeypatch.undo()
    assert work.files("acme/tiny")["model.safetensors"] == tiny.files["model.safetensors"]


def test_passwords_of_netrc_stay_at_home(work: Workplace, tiny: Repo, tmp_path: Path, monkeypatch: Any) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\nmachine localhost login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    work.pull("acme/tiny")
    assert {seen.authorization for seen in work.hub.seen} == {""}


def test_a_lock_file_that_its_holder_removed(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "x.lock"
    first, second = FileLock(str(path)), FileLock(str(path))
    assert first.acquire()
    assert not second.acquire()
    with first:
        path.unlink()
    assert second.acquire()
    with second:
        pass


def test_private_addresses_are_known() -> None:
    inside = ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fe80::1",
              "0", "2130706433", "0x7f.1", "127.1", "192.168.0.1", "100.64.0.1", "::ffff:127.0.0.1"]  # fmt: skip
    assert [host for host in inside if not hub_http.is_inside(host)] == []
    assert not any(map(hub_http.is_inside, ["huggingface.co", "8.8.8.8", "2606:4700::1111", "cdn-lfs.hf.co"]))


def test_no_connection_is_left_open(work: Workplace, tiny: Repo) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(3):
        stream = pull_files(work.request("acme/tiny"))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert socket.getdefaulttimeout() is None
    if before:
        deadline = time.monotonic() + 60
        # the stand-in's own ends may linger
        while len(os.listdir("/proc/self/fd")) > before + 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
