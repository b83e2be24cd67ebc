"""Pushes in this process, against a stand-in Hub with every fault of a network."""

import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hugging_llama.errors import (
    GatedModelError,
    HuggingLlamaError,
    InvalidRequestError,
    KeyRejectedError,
    TransferError,
    WriteForbiddenError,
)
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.names import parse_name
from hugging_llama.store.push import push_files
from hugging_llama.store.push_request import PushFile, PushRequest
from hugging_llama_config.child import transfer_environment
from tests.hub_server import BAD_TOKEN, GOOD_TOKEN, READ_TOKEN, Allowance, Repo, StandInHub
from tests.store import models
from tests.store.conftest import QUICK, Workplace

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
WEIGHT_BYTES = 12_000_000
STALLED_S = 3.0
"""After which silence is no slow machine's; only the one request that meets silence waits for so long."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library waits for seconds before it tries again."""
    brief = SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 100))
    monkeypatch.setattr("huggingface_hub.utils._http.time", brief)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model on disk, its weights above the size from which on files are sent by themselves."""
    folder = tmp_path_factory.mktemp("model")
    found = {}
    for path in ("config.json", "tokenizer.json", "model.safetensors"):
        found[path] = folder / path
        found[path].write_bytes(models.chat_model(WEIGHT_BYTES)[path])
    return found


@pytest.fixture
def request_(hub: StandInHub, files: dict[str, Path]) -> PushRequest:
    pushed = [PushFile(path=path, source=str(source)) for path, source in files.items()]
    return PushRequest(
        name=parse_name("acme/mine"),
        files=(*pushed, PushFile(path="Modelfile", text="FROM acme/base\n")),
        access=HubAccess(endpoint=hub.endpoint, token=GOOD_TOKEN),
        policy=QUICK,
        timeout_s=120.0,
    )


def _contents(request: PushRequest) -> dict[str, bytes]:
    return {file.path: Path(file.source).read_bytes() if file.source else file.text.encode() for file in request.files}


def _fails(request: PushRequest, kind: type[HuggingLlamaError], text: str) -> HuggingLlamaError:
    with pytest.raises(kind, match=text) as caught:
        list(push_files(request))
    assert type(caught.value) is kind
    assert "hf_" not in str(caught.value.message)
    return caught.value


def _watched(hub: StandInHub, events: Iterator[TransferProgress]) -> Iterator[TransferProgress]:
    """The events of a push whose weights go on, a piece at a time, when it was seen how far they are."""
    allowance = Allowance(1_000_000)
    hub.fault("PUT /_upload/", "held_upload", allowance)
    for event in events:
        yield event
        if event.file == "model.safetensors":
            allowance.raise_by(math.inf if event.completed_bytes == event.total_bytes else 1_000_000)


def test_a_whole_push(hub: StandInHub, request_: PushRequest) -> None:
    events = list(_watched(hub, push_files(request_)))
    assert {path: data for path, data in hub.repos["acme/mine"].files.items() if path != ".gitattributes"} == _contents(
        request_
    )
    assert [event.status for event in events[-2:]] == ["pushing manifest", "success"]
    weights = [event for event in events if event.file == "model.safetensors"]
    sent = [event.completed_bytes for event in weights]
    assert len(sent) > 3
    assert sent == sorted(sent)
    assert sent[-1] == weights[-1].total_bytes == len(_contents(request_)["model.safetensors"])
    total = sum(map(len, _contents(request_).values()))
    assert {event.overall_total_bytes for event in events if event.file} == {total}
    assert events[-3].overall_completed_bytes == total
    assert weights[0].digest == models.sha256(_contents(request_)["model.safetensors"])
    assert {event.file for event in events if event.completed_bytes == event.total_bytes > 0} == set(
        _contents(request_)
    )


def test_progress_is_what_the_wire_has_taken(hub: StandInHub, request_: PushRequest) -> None:
    """What is said to have left lies with the Hub or in the buffers of two sockets."""
    events = _watched(hub, push_files(request_))
    moves = 0
    while True:
        received_before = hub.received()
        event = next(events)
        if event.status == "pushing manifest":
            break
        if event.file == "model.safetensors" and 0 < event.completed_bytes < event.total_bytes:
            moves += 1
            # the Hub goes on while one is compared
            assert event.completed_bytes > received_before - WEIGHT_BYTES // 2
            assert event.completed_bytes < hub.received() + WEIGHT_BYTES // 2
    assert moves > 3
    assert list(events)[-1].status == "success"


def test_what_is_there_is_not_sent_again(hub: StandInHub, request_: PushRequest) -> None:
    list(push_files(request_))
    commit = hub.repos["acme/mine"].commit
    received = hub.received()
    events = list(push_files(request_))
    assert events[-1].status == "success"
    assert {event.file for event in events if event.completed_bytes == event.total_bytes > 0} == set(
        _contents(request_)
    )
    assert hub.received() == received
    assert hub.repos["acme/mine"].commit == commit


def test_files_in_parts(hub: StandInHub, request_: PushRequest) -> None:
    hub.part_size = 5_000_000
    assert list(push_files(request_))[-1].status == "success"
    assert hub.repos["acme/mine"].files["model.safetensors"] == _contents(request_)["model.safetensors"]
    assert len(hub.requests(r"PUT /_upload/\w+/\d")) == 3


def test_a_branch_of_its_own_and_a_private_repository(hub: StandInHub, request_: PushRequest) -> None:
    list(push_files(dataclasses.replace(request_, name=parse_name("acme/mine:v2"), private=True)))
    repo = hub.repos["acme/mine"]
    assert repo.access == "private"
    assert set(repo.files) == {".gitattributes"}
    assert set(repo.branches["v2"]) == {".gitattributes", *_contents(request_)}


def test_a_repository_that_is_more_public_than_was_asked_for(hub: StandInHub, request_: PushRequest) -> None:
    hub.repos["acme/Mine"] = Repo({})
    _fails(dataclasses.replace(request_, private=True), InvalidRequestError, "acme/Mine is public: make it private")
    assert hub.received() == 0
    list(push_files(dataclasses.replace(request_, private=False)))
    assert set(hub.repos) == {"acme/Mine"}
    assert hub.repos["acme/Mine"].files == _contents(request_)
    assert not hub.requests("POST .*acme/mine"), "the Hub's spelling"


def test_what_would_be_taken_for_the_model_goes(hub: StandInHub, request_: PushRequest) -> None:
    old = models.sharded_model() | {
        "chat_template.jinja": b"old", "README.md": b"mine", "results.json": b"{}", "onnx/model.safetensors": b"x",
    }  # fmt: skip
    hub.repos["acme/mine"] = Repo(dict(old))
    list(push_files(request_))
    after = hub.repos["acme/mine"].files
    assert set(after) == {"README.md", "results.json", "onnx/model.safetensors", *_contents(request_)}
    assert hub.repos["acme/mine"].past  # the history keeps the rest


@pytest.mark.parametrize(
    ("pattern", "mode", "arg"),
    [
        ("POST /api/repos/create", "status", 503),
        ("POST /api/repos/create", "reset", None),
        ("POST /api/repos/create", "lost_reply", None),
        ("GET .*/revision/", "status", 500),
        ("POST .*/preupload/", "status", 502),
        ("PUT /_upload/", "status", 500),
        ("PUT /_upload/", "cut_upload", 3_000_000),
        ("PUT /_upload/", "stall_upload", 3_000_000),
        ("POST .*/lfs/verify", "status", 503),
        ("POST .*/commit/", "status", 503),
        ("POST .*/commit/", "reset", None),
        ("POST .*/commit/", "drop", None),
        ("POST .*/commit/", "lost_reply", None),
        ("POST .*/commit/", "stall", 0),
    ],
)
def test_a_fault_that_goes_away(
    hub: StandInHub, request_: PushRequest, pattern: str, mode: str, arg: int | None
) -> None:
    hub.fault(pattern, mode, arg)
    timeout_s = STALLED_S if "stall" in mode else request_.timeout_s
    assert list(push_files(dataclasses.replace(request_, timeout_s=timeout_s)))[-1].status == "success"
    assert hub.repos["acme/mine"].files.items() >= _contents(request_).items()
    assert len(hub.repos["acme/mine"].past) == 1, "one commit, whatever was lost"


def test_the_last_try_is_looked_up_too(hub: StandInHub, request_: PushRequest) -> None:
    hub.fault("POST .*/commit/", "status", 503, times=QUICK.attempts - 1)
    hub.fault("POST .*/commit/", "lost_reply")
    assert list(push_files(request_))[-1].status == "success"
    assert len(hub.requests("/commit/")) == QUICK.attempts


@pytest.mark.parametrize(
    ("pattern", "status", "kind", "text"),
    [
        ("create", 401, KeyRejectedError, "rejects the token"),
        ("create", 503, TransferError, "answered 503"),
        ("preupload", 403, WriteForbiddenError, "does not let this token write to acme/mine"),
        ("/_upload/", 413, TransferError, "takes no more bytes for acme/mine"),
        ("/_upload/", 400, TransferError, "answered 400"),
        ("/commit/", 409, TransferError, "was changed while the model was pushed"),
        ("/commit/", 412, TransferError, "was changed while the model was pushed"),
        ("/commit/", 503, TransferError, "answered 503"),
        ("/commit/", 413, TransferError, "takes no more bytes"),
        ("objects/batch", 402, TransferError, "takes no more bytes"),
    ],
)
def test_refusals(
    hub: StandInHub, request_: PushRequest, pattern: str, status: int, kind: type[HuggingLlamaError], text: str
) -> None:
    hub.fault(pattern, "status", status, times=99)
    _fails(request_, kind, text)
    assert "acme/mine" not in hub.repos or set(hub.repos["acme/mine"].files) == {".gitattributes"}, "no commit"


def test_gated(hub: StandInHub, request_: PushRequest) -> None:
    hub.fault("preupload", "status", 403, X_Error_Code="GatedRepo")
    assert _fails(request_, GatedModelError, "access to acme/mine must be granted first").facts["url"]


def test_the_hubs_own_words_are_told_in_one_line(hub: StandInHub, request_: PushRequest) -> None:
    hub.fault("preupload", "status", 403, X_Error_Message="storage limit\treached" + "!" * 1000)
    error = _fails(request_, WriteForbiddenError, "storage limit reached!!")
    assert len(error.message) < 600
    assert error.message.isprintable()


@pytest.mark.parametrize(
    ("token", "kind", "text"),
    [(READ_TOKEN, WriteForbiddenError, "the right to write"), (BAD_TOKEN, KeyRejectedError, "rejects the token")],
)
def test_tokens(hub: StandInHub, request_: PushRequest, token: str, kind: type[HuggingLlamaError], text: str) -> None:
    hub.repos["acme/mine"] = Repo({})
    access = HubAccess(endpoint=hub.endpoint, token=token)
    _fails(dataclasses.replace(request_, access=access), kind, text)
    assert hub.repos["acme/mine"].files == {}
    assert hub.received() == 0


@pytest.mark.parametrize("token", ["hf_a\nX: y", "hf_ö", "hf_a b"])
def test_a_token_that_is_none_is_never_sent(hub: StandInHub, request_: PushRequest, token: str) -> None:
    access = HubAccess(endpoint=hub.endpoint, token=token)
    _fails(dataclasses.replace(request_, access=access), KeyRejectedError, "characters that no token has")
    assert hub.seen == []


def test_the_token_goes_to_the_hub_alone(hub: StandInHub, request_: PushRequest) -> None:
    list(push_files(request_))
    elsewhere = [seen for seen in hub.seen if seen.host.startswith("localhost")]
    assert elsewhere
    assert {seen.authorization for seen in elsewhere} == {""}
    hub.fault("POST .*/preupload/", "redirect", f"{hub.other_host}/api/models/acme/mine/preupload/main")
    with pytest.raises(HuggingLlamaError):
        list(push_files(request_))
    assert {seen.authorization for seen in hub.seen if seen.host.startswith("localhost")} == {""}


def test_a_public_hub_can_not_lead_into_this_network(request_: PushRequest) -> None:
    from hugging_llama.store.push_http import _Rules

    class _Request:
        def __init__(self, url: str) -> None:
            self.url, self.headers = url, {"Authorization": "Bearer hf_x"}

    rules = _Rules(HubAccess(endpoint="https://huggingface.co", token="hf_x"))
    for url in ("http://bucket.example/x", "https://127.0.0.1/x", "https://169.254.169.254/x", "https://localhost/x"):
        with pytest.raises(TransferError, match="the Hub leads"):
            rules.check_request(_Request(url))
    fine = _Request("https://bucket.example/x")
    rules.check_request(fine)
    assert "Authorization" not in fine.headers
    at_home = _Request("https://huggingface.co/api/x")
    rules.check_request(at_home)
    assert at_home.headers["Authorization"] == "Bearer hf_x"


@pytest.mark.parametrize(
    ("pattern", "body", "headers"),
    [
        ("preupload", b"[]", {}),
        ("preupload", b"not json", {}),
        ("preupload", b'{"files": [{"path": "x"}]}', {}),
        ("/commit/", b"{}", {}),
        ("objects/batch", b'{"objects": [{"oid": 1}]}', {}),
        ("objects/batch", b"\x1f\x8b", {"Content_Encoding": "gzip"}),
        ("/revision/", b'{"sha": "../../x"}', {}),
        ("/tree/", b'[{"type": "file", "path": "../x", "oid": "zz", "size": 1}]', {}),
    ],
)
def test_replies_that_can_not_be_used(
    hub: StandInHub, request_: PushRequest, pattern: str, body: bytes, headers: dict[str, str]
) -> None:
    hub.fault(pattern, "body", body, times=99, **headers)
    try:
        list(push_files(request_))
    except TransferError:
        assert "acme/mine" not in hub.repos or set(hub.repos["acme/mine"].files) == {".gitattributes"}
    else:
        assert pattern == "/tree/"  # such a file is none of ours


def test_a_change_in_between_is_not_overwritten(hub: StandInHub, request_: PushRequest) -> None:
    events = push_files(request_)
    next(event for event in events if event.status == "pushing manifest")
    hub.repos["acme/mine"].put("main", {"theirs": b"x"})
    with pytest.raises(TransferError, match="push it again"):
        list(events)
    assert hub.repos["acme/mine"].files == {"theirs": b"x"}


def test_nobody_there(request_: PushRequest) -> None:
    access = HubAccess(endpoint="http://127.0.0.1:9", token=GOOD_TOKEN)
    _fails(dataclasses.replace(request_, access=access), TransferError, "can't reach 127.0.0.1")


def test_a_file_that_is_gone(hub: StandInHub, request_: PushRequest, tmp_path: Path) -> None:
    gone = PushFile(path="config.json", source=str(tmp_path / "gone.json"))
    error = _fails(dataclasses.replace(request_, files=(gone,)), TransferError, "can't be read: no such file")
    assert str(tmp_path) not in error.message


def test_what_is_pushed_can_be_pulled(work: Workplace, request_: PushRequest) -> None:
    list(push_files(request_))
    work.token = GOOD_TOKEN
    last = work.pull("acme/mine")[-1]
    pulled = work.files("acme/mine")
    assert last == TransferProgress(status="success", fetched_bytes=sum(map(len, pulled.values())))
    assert pulled == {path: data for path, data in _contents(request_).items() if path != "Modelfile"}


def test_the_childs_environment_holds_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGING_LLAMA_HUB_TOKEN"):
        monkeypatch.setenv(name, "hf_operator")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    environ = transfer_environment()
    assert "hf_operator" not in environ.values()
    assert environ["HTTPS_PROXY"] == "http://proxy.example"
    assert (environ["HF_HUB_DISABLE_XET"], environ["HF_HUB_DISABLE_TELEMETRY"]) == ("1", "1")
