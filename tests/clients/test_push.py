"""Models pushed by Ollama's official client through a real gunicorn to a stand-in Hub, and pulled back."""

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import ollama
import psutil  # type: ignore[import-untyped]
import pytest
import requests

from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.manifests import Manifest, Manifests, Source, StoredMessage
from hugging_llama.store.names import parse_name
from hugging_llama.store.pull import PullRequest, pull_files
from tests.hub_cache import add_to_hub_cache
from tests.hub_server import GOOD_TOKEN, READ_TOKEN, Allowance, StandInHub
from tests.live_server import LiveServer, live_server
from tests.process.servers import wait_until
from tests.store import models

ROOT = Path(__file__).parents[2]
SCRIPTED = [
    sys.executable, "-m", "gunicorn", "-c", str(ROOT / "tests/process/scripted_gunicorn.py"),
    "--pythonpath", str(ROOT), "wsgi:app",
]  # fmt: skip
WEIGHT_BYTES = 12_000_000
BASE = models.chat_model(WEIGHT_BYTES)
KEPT = {path: data for path, data in BASE.items() if path in models.KEPT and path != "README.md"}
SECRET = "hf_secret_token"


@pytest.fixture(scope="module")
def the_hub() -> Iterator[StandInHub]:
    with StandInHub() as hub:
        yield hub


@pytest.fixture
def hub(the_hub: StandInHub) -> StandInHub:
    """The one Hub of this module's server, empty again."""
    the_hub.repos.clear()
    the_hub.objects.clear()
    the_hub.faults.clear()
    the_hub.seen.clear()
    the_hub.accounts[SECRET] = the_hub.accounts[GOOD_TOKEN]
    return the_hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("push")


@pytest.fixture(scope="module")
def server(the_hub: StandInHub, folder: Path) -> Iterator[LiveServer]:
    """A real gunicorn over an engine that plays a script, with one model of the Hub and a home of its own."""
    files = folder / "base"
    files.mkdir()
    for path, data in KEPT.items():
        (files / path).write_bytes(data)
    add_to_hub_cache(folder / "hub", "acme/base", files)
    settings = {"hub_endpoint": the_hub.endpoint, "home": str(folder / "home"), "log_level": "debug"}
    with live_server(folder, folder / "hub", SCRIPTED, **settings) as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url, headers={"X-HF-Token": SECRET}) as client:
        yield client


def _write(folder: Path, name: str, **fields: object) -> None:
    made = {"source": Source(base="acme/base:latest"), **fields}
    Manifests(str(folder / "home")).write(Manifest(name=name, **made))  # type: ignore[arg-type]


def _children(server: LiveServer) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "push_process" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_pushed_and_pulled_back(hub: StandInHub, client: ollama.Client, folder: Path, tmp_path: Path) -> None:
    _write(
        folder, "me/Mine:latest", parameters={"temperature": 0.25, "stop": ["END"]}, system="Be brief.\nAlways.",
        template="{{ messages }}", messages=(StoredMessage(role="user", content="Hi"),), licenses=("MIT",),
        context_length=512,
    )  # fmt: skip
    allowance = Allowance(1_000_000)
    hub.fault("PUT /_upload/", "held_upload", allowance)
    parts = []
    for part in client.push("me/mine", stream=True):
        parts.append(part)
        if part.total == len(KEPT["model.safetensors"]):  # a piece at a time, when it was seen how far it is
            allowance.raise_by(math.inf if part.completed == part.total else 1_000_000)
    assert parts[0].status == "retrieving manifest"
    assert [part.status for part in parts[-2:]] == ["pushing manifest", "success"]
    digest = models.sha256(KEPT["model.safetensors"])
    weights = [part for part in parts if part.digest == f"sha256:{digest}"]
    assert {part.status for part in weights} == {f"pushing {digest[:12]}"}
    assert len(weights) > 3
    assert weights[-1].completed == weights[-1].total == len(KEPT["model.safetensors"])

    pull = PullRequest(name=parse_name("me/mine"), cache=str(tmp_path), access=HubAccess(endpoint=hub.endpoint))
    list(pull_files(pull))
    root = tmp_path / "models--me--Mine"
    snapshot = root / "snapshots" / (root / "refs/main").read_text()
    pulled = {path.name: path.read_bytes() for path in snapshot.iterdir()}
    made = {
        name: pulled.pop(name) for name in ("README.md", "generation_config.json", "chat_template.jinja", "LICENSE")
    }
    assert pulled == {path: data for path, data in KEPT.items() if path != "LICENSE"}
    assert json.loads(made["generation_config.json"]) == {"temperature": 0.25, "do_sample": True}
    assert made["chat_template.jinja"] == b"{{ messages }}"
    assert made["LICENSE"] == b"Do as you like\n\nMIT\n"
    assert made["README.md"].startswith(b"---\nbase_model: acme/base\nlibrary_name: transformers\nlicense: mit\n---\n")
    modelfile = hub.repos["me/Mine"].files["Modelfile"].decode()
    for line in ("FROM acme/base:latest", 'SYSTEM "Be brief.\nAlways."', "PARAMETER temperature 0.25",
                 "PARAMETER stop END", "PARAMETER num_ctx 512", "LICENSE MIT", "TEMPLATE {{ messages }}",
                 "MESSAGE user Hi"):  # fmt: skip
        assert line in modelfile


def test_one_object_without_streaming(hub: StandInHub, client: ollama.Client, folder: Path) -> None:
    _write(folder, "me/plain:v1")
    assert client.push("me/plain:v1").status == "success"
    assert hub.repos["me/plain"].branches["v1"].keys() >= KEPT.keys()


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "model is required"),
        ({"model": "me/mine", "insecure": True}, 400, "insecure is not supported"),
        ({"model": "../x"}, 400, "invalid model name"),
        ({"name": "me/nothing"}, 404, "model 'me/nothing' not found"),
        ({"model": "short"}, 400, "copy short:latest to your-name/short first"),
        ({"model": "acme/base"}, 400, "has no name of yours: copy it to one"),
        ({"model": "demo"}, 400, "has no name of yours"),
        ({"model": f"me/x:{'a' * 40}"}, 400, "not to a commit"),
        ({"model": "me/x.git"}, 400, "takes no repository with this name"),
    ],
)
def test_refused_at_once(
    hub: StandInHub, server: LiveServer, folder: Path, body: dict[str, object], status: int, text: str
) -> None:
    for name in ("me/mine:latest", "short:latest", f"me/x:{'a' * 40}", "me/x.git:latest"):
        _write(folder, name)
    answer = requests.post(f"{server.url}/api/push", json=body, headers={"X-HF-Token": SECRET}, timeout=60)
    assert (answer.status_code, text in answer.json()["error"]) == (status, True), answer.text
    assert hub.seen == []


def test_whose_token_is_sent(hub: StandInHub, server: LiveServer, folder: Path) -> None:
    _write(folder, "me/mine:latest")

    def push(**headers: str) -> requests.Response:
        hub.seen.clear()
        body = {"model": "me/mine", "stream": False}
        return requests.post(f"{server.url}/api/push", json=body, headers=headers, timeout=60)

    refused = push()
    assert refused.status_code == 401
    assert "X-HF-Token" in refused.json()["error"]
    assert push(Authorization="Bearer sk-something-else").status_code == 401
    assert hub.seen == []
    assert push(Authorization=f"Bearer {GOOD_TOKEN}").json() == {"status": "success"}
    assert {seen.authorization for seen in hub.requests("/api/")} == {f"Bearer {GOOD_TOKEN}"}
    both = {"Authorization": f"Bearer {READ_TOKEN}", "X-HF-Token": GOOD_TOKEN}
    assert push(**both).json() == {"status": "success"}
    assert {seen.authorization for seen in hub.requests("/api/")} == {f"Bearer {GOOD_TOKEN}"}
    answer = push(**{"X-HF-Token": READ_TOKEN})
    assert answer.status_code == 403
    assert "does not let this token write to me/mine" in answer.json()["error"]


def test_an_error_on_the_way_is_the_last_line(hub: StandInHub, server: LiveServer, folder: Path) -> None:
    _write(folder, "other/mine:latest")
    answer = requests.post(
        f"{server.url}/api/push", json={"model": "other/mine"}, headers={"X-HF-Token": SECRET}, timeout=60
    )
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert (answer.status_code, lines[0]) == (200, {"status": "retrieving manifest"})
    assert lines[-1].keys() == {"error"}
    assert 'the namespace "other"' in lines[-1]["error"]


def test_the_token_is_nowhere_to_be_seen(
    hub: StandInHub, client: ollama.Client, server: LiveServer, folder: Path
) -> None:
    _write(folder, "me/mine:latest")
    hub.fault("PUT /_upload/", "held_upload", Allowance(1_000_000))
    for part in client.push("me/mine", stream=True):
        if part.completed and part.total and part.completed < part.total:
            (child,) = _children(server)
            for process in (child, *psutil.Process(server.process.pid).children()):
                shown = (
                    Path(f"/proc/{process.pid}/cmdline").read_bytes()
                    + Path(f"/proc/{process.pid}/environ").read_bytes()
                )
                assert SECRET.encode() not in shown
            break
    else:
        raise AssertionError("nothing was seen on its way")
    hub.fault("/preupload/", "status", 403)
    with pytest.raises(ollama.ResponseError, match="does not let this token write"):
        client.push("me/mine")
    hub.fault("/commit/", "body", b"{}")
    with pytest.raises(ollama.ResponseError, match="can't be used"):
        client.push("me/mine")
    assert SECRET not in server.log.read_text()
    assert not [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_who_leaves_ends_the_push(hub: StandInHub, client: ollama.Client, server: LiveServer, folder: Path) -> None:
    """Also while nothing moves; meanwhile the workers serve others."""
    _write(folder, "me/mine:latest")
    hub.fault("PUT /_upload/", "stall_upload", 100_000)
    parts = client.push("me/mine", stream=True)
    next(parts)
    wait_until(lambda: bool(hub.requests("PUT /_upload/")))
    for _ in range(4):
        assert requests.get(f"{server.url}/health", timeout=60).ok
    assert len(_children(server)) == 1
    parts.close()  # type: ignore[attr-defined]
    wait_until(lambda: not _children(server))
    assert set(hub.repos["me/mine"].files) == {".gitattributes"}


def test_killed_in_the_middle(hub: StandInHub, client: ollama.Client, folder: Path, tmp_path: Path) -> None:
    """A whole server, by kill -9: no commit. Another one on the same home then pushes the model."""
    _write(folder, "me/mine:latest")
    hub.fault("PUT /_upload/", "held_upload", Allowance(6_000_000))
    home, cache = str(folder / "home"), folder / "hub"
    with live_server(tmp_path, cache, SCRIPTED, hub_endpoint=hub.endpoint, home=home) as victim:
        with ollama.Client(host=victim.url, headers={"X-HF-Token": SECRET}) as its_client:
            parts = its_client.push("me/mine", stream=True)
            next(part for part in parts if part.total and part.total > (part.completed or 0) > WEIGHT_BYTES // 4)
            children = _children(victim)
            assert children
            for process in (psutil.Process(victim.process.pid), *psutil.Process(victim.process.pid).children()):
                with contextlib.suppress(psutil.NoSuchProcess):  # without their master the others end by themselves
                    process.kill()
        wait_until(lambda: not any(child.is_running() for child in children))
        victim.process.wait()
    assert set(hub.repos["me/mine"].files) == {".gitattributes"}
    assert hub.objects == {}
    assert client.push("me/mine").status == "success"
    assert hub.repos["me/mine"].files.items() >= KEPT.items()
    assert len(hub.repos["me/mine"].past) == 1
