"""Hostile names and digests at every route that takes one: an error in one sentence, and nothing touched."""

import hashlib
import logging
import os
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hugging_llama import create_app
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.store import home_format, names
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import load_settings
from tests.hub_cache import add_to_hub_cache, minilm_files

DIGEST = "sha256:" + "a" * 64
DEMO = "hugging-llama/demo"


@dataclass(frozen=True)
class Case:
    """A request with a text of somebody's in it, in its body or between `path` and `after`. `leaves`: for a name that
    is fine it would ask the Hub."""

    method: str
    path: str
    body: Callable[[str], dict[str, Any]] | None = None
    leaves: bool = False
    after: str = ""


def _model(path: str, key: str = "model", method: str = "POST", *, leaves: bool = False, **more: Any) -> Case:
    body = {"from": DEMO, **more} if path == "/api/create" else more
    return Case(method, path, lambda text: {**body, key: text}, leaves)


CASES: dict[str, list[Case]] = {
    "/api/generate": [_model("/api/generate", prompt="x"), _model("/api/generate", keep_alive=0)],
    "/api/chat": [_model("/api/chat", messages=[{"role": "user", "content": "x"}])],
    "/api/embed": [_model("/api/embed", input="x")],
    "/api/embeddings": [_model("/api/embeddings", prompt="x")],
    "/api/tokenize": [_model("/api/tokenize", content="x")],
    "/api/detokenize": [_model("/api/detokenize", tokens=[1])],
    "/api/show": [_model("/api/show"), _model("/api/show", "name"), _model("/api/show", remote=True, leaves=True)],
    "/api/create": [
        _model("/api/create"),
        _model("/api/create", "from", model="mine", leaves=True),
        _model("/api/create", "adapters", model="mine", leaves=True),
        Case("POST", "/api/create", lambda text: {"model": "mine", "files": {text: DIGEST}}),
        Case("POST", "/api/create", lambda text: {"model": "mine", "files": {"config.json": text}}),
        Case("POST", "/api/create", lambda text: {"model": "mine", "from": DEMO, "adapters": {text: DIGEST}}),
        Case("POST", "/api/create", lambda text: {"model": "mine", "from": DEMO, "adapters": {"a.json": text}}),
    ],
    "/api/copy": [_model("/api/copy", "source", destination="mine"), _model("/api/copy", "destination", source=DEMO)],
    "/api/delete": [_model("/api/delete", method="DELETE"), _model("/api/delete", "name", method="DELETE")],
    "/api/pull": [_model("/api/pull", leaves=True), _model("/api/pull", "revision", model="a/b", leaves=True)],
    "/api/push": [_model("/api/push", leaves=True)],
    "/v1/chat/completions": [_model("/v1/chat/completions", messages=[{"role": "user", "content": "x"}])],
    "/v1/messages": [_model("/v1/messages", max_tokens=9, messages=[{"role": "user", "content": "x"}])],
    "/v1/messages/count_tokens": [_model("/v1/messages/count_tokens", messages=[{"role": "user", "content": "x"}])],
    "/v1/completions": [_model("/v1/completions", prompt="x")],
    "/v1/responses": [
        _model("/v1/responses", input="x", store=False),
        _model("/v1/responses", "previous_response_id", model=DEMO, input="x", store=False),
        Case(
            "POST",
            "/v1/responses",
            lambda text: {"model": DEMO, "input": [{"type": "item_reference", "id": text}], "store": False},
        ),
    ],
    "/v1/responses/<id>": [Case("GET", "/v1/responses/"), Case("DELETE", "/v1/responses/")],
    "/v1/responses/<id>/input_items": [
        Case("GET", "/v1/responses/", after="/input_items"),
        Case("GET", "/v1/responses/x/input_items?after="),
    ],
    "/v1/responses/<id>/cancel": [Case("POST", "/v1/responses/", after="/cancel")],
    "/v1/embeddings": [_model("/v1/embeddings", input="x")],
    "/v1/rerank": [_model("/v1/rerank", query="x", documents=["x"])],
    "/v2/rerank": [_model("/v2/rerank", query="x", documents=["x"])],
    "/api/rerank": [_model("/api/rerank", query="x", documents=["x"]), _model("/api/rerank")],
    "/v1/classify": [_model("/v1/classify", input="x")],
    "/v1/models/<path:name>": [Case("GET", "/v1/models/")],
    "/api/user/keys/<path:key>": [Case("DELETE", "/api/user/keys/")],
    "/docs/<name>": [Case("GET", "/docs/")],
    "/v1/audio/transcriptions": [_model("/v1/audio/transcriptions")],
    "/api/blobs/<digest>": [Case("POST", "/api/blobs/"), Case("HEAD", "/api/blobs/")],
}
NAMELESS = {
    "/", "/api/version", "/api/tags", "/api/models", "/api/ps", "/health", "/ready", "/metrics", "/v1/models",
    "/api/status", "/api/me", "/api/signout", "/api/experimental/web_search", "/api/experimental/web_fetch",
    "/api/experimental/model-recommendations", "/openapi.json", "/docs",
}  # fmt: skip

HOSTILE = [
    "x\n/", "a\r\nX: y/",
    "", " ", ".", "..", "...", "/", "//", "\\", "~", "~root", ":", "::", ":latest", "a:", "a:b:c", "a/b/c", "a//b",
    "/a/b", "../x", "x/..", "a/../b", "a/b/../../c", "a/b:../c", "a/b:/c", "a/b:c/../d", "./a", "a/.", "a/./b",
    ".a/b", "a/.b", "/etc/passwd", "/etc/passwd:latest", "file:///etc/passwd", "hf.co/../../etc/passwd", "hf.co/",
    "hf.co//a", "hf.co/a/b/c", "https://evil.com/a/b", "http://hf.co@evil.com/a/b", "evil.com:80/a", "localhost/a",
    "127.0.0.1/a", "[::1]/a", "%2e%2e/x", "%2e%2e%2fx", "..%2fx", "a%00b", "..%c0%afx", "..;/x", "a\0b", "\0",
    "a/b\0", "a\nb", "a/b\n", "\r\na", "a\tb", "a b", " a", "a ", "a/ b", "C:\\x", "C:/x", "\\\\host\\share", "..\\x",
    "a\\..\\b", "CON", "a/NUL.", "a.", "a/b.", "-a", "--a", "a--b/c", "a/b--c", "models--a--b", "．．/x", "a／b", "a∕b",
    "‥/x", "a：b", "é/b", "a/ｂ", "а/b", "٣/x", "a\u202eb", "a\ud800", "\ufeffa", "a\u0301", "${HOME}", "$(id)", "`id`",
    "{{7*7}}", "a;b", "a|b", "a&b", "a'b", 'a"b', "a<b", "a*", "a?", "a#b", "a%s", "A" * 97, "a/" + "b" * 97,
    "a/b:" + "c" * 97, "a" * 10_000, "a/" * 5_000, "../" * 3_000 + "etc/passwd", "a/b:cloud", "x:local:cloud",
    "sha256:", "sha256:../../x", "sha256:" + "a" * 63, "sha256:" + "a" * 65, "sha256:" + "A" * 64,
    "sha256:" + "g" * 64, "sha256:" + "a" * 62 + "..", "sha256:" + "٠" * 64, "sha256:" + "a" * 64 + "\n",
    "sha256:" + "a" * 32 + "/" + "a" * 31, "md5:" + "a" * 64, "sha256-../" + "a" * 61, "sha256:%2e%2e%2f" + "a" * 55,
    "a" * 64, "sha256:sha256:" + "a" * 57, " " + DIGEST,
]  # fmt: skip

texts = (
    st.text(max_size=30)
    | st.text(alphabet="ab./\\:-_~%\0\n ２．／", max_size=14)
    | st.lists(st.sampled_from(["..", "a", "", ".", "hf.co", "a:b", "%2e", "～", "main"]), max_size=6).map("/".join)
    | st.text(alphabet="0123456789abcdefABCDEF./%٠", min_size=60, max_size=66).map("sha256:".__add__)
)


@dataclass(frozen=True)
class World:
    """A server over `<folder>/home` and `<folder>/cache`, and what else lies in `folder`."""

    client: FlaskClient
    folder: Path
    records: list[logging.LogRecord]

    def tree(self) -> dict[str, str]:
        """Every file, folder and link but those in the parts of the home that models of ours may be in."""
        found = {}
        for base, folders, files in os.walk(self.folder):
            if Path(base) == self.folder / "home":
                folders[:] = [name for name in folders if name not in ("models", "blobs", "folders")]
            for name in (*folders, *files):
                path = os.path.join(base, name)
                content = os.readlink(path).encode() if os.path.islink(path) else b""
                if name in files and not content:
                    content = Path(path).read_bytes()
                found[os.path.relpath(path, self.folder)] = hashlib.sha256(content).hexdigest()
        return found

    def check(self, case: Case, text: str) -> None:
        """Send one request, look at the answer."""
        if case.leaves and (_is_fine(text) or _is_fine(f"a/b:{text}")):
            return
        if case.body is None:
            path = case.path + urllib.parse.quote(text, safe="", errors="surrogatepass") + case.after
            response = self.client.open(path, method=case.method, data=b"")
            # what does not match the route has the page of the router
            assert response.status_code in (200, 301, 307, 308, 400, 401, 403, 404, 405), (case, text)
        else:
            response = self.client.open(case.path, method=case.method, json=case.body(text))
            assert 400 <= response.status_code < 500 or (_is_fine(text) and response.status_code == 200), (case, text)
            if response.status_code != 200:
                error = response.get_json()["error"]
                error = error["message"] if case.path.startswith(("/v1/", "/v2/")) else error
                assert isinstance(error, str), case
                assert error, case
                assert len(error) < 1000 + len(text), case
        assert str(self.folder) not in response.text
        assert "Traceback" not in response.text
        assert "site-packages" not in response.text


def _is_fine(text: str) -> bool:
    if not text:  # a field that is not there
        return True
    try:
        names.parse_name(text)
    except HuggingLlamaError:
        return False
    return True


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.records.append(record)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    add_to_hub_cache(folder / "cache", "acme/mini", minilm_files())
    (folder / "canary.json").write_text("{}")
    (folder / "home").mkdir()
    (folder / "home" / "config.toml").touch()
    home_format.prepare(str(folder / "home"))
    (folder / "open").mkdir()
    environ = {
        "HOME": str(folder),
        "HUGGING_LLAMA_HOME": str(folder / "home"),
        "HUGGING_LLAMA_RUN_DIR": str(folder / "run"),
        "HUGGING_LLAMA_MODEL_DIRS": str(folder / "open"),
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_ENDPOINT": "http://127.0.0.1:1",
    }
    handler = _Records()
    logging.getLogger().addHandler(handler)
    app = create_app(load_settings(environ=environ), engine=ScriptedEngine())
    client = app.test_client()
    client.post("/api/copy", json={"source": DEMO, "destination": "first"})  # the home is set up by the first write
    client.post("/v1/responses", json={"model": DEMO, "input": "x"})
    yield World(client, folder, handler.records)
    logging.getLogger().removeHandler(handler)


@pytest.fixture(autouse=True)
def _nothing_is_touched(world: World) -> Iterator[None]:
    before = world.tree()
    world.records.clear()
    yield
    assert world.tree() == before
    assert [record.getMessage() for record in world.records] == []


def test_every_route_is_walked(world: World) -> None:
    rules = {rule.rule for rule in world.client.application.url_map.iter_rules()}
    assert {rule for rule in rules if rule not in NAMELESS} <= CASES.keys(), "a new route needs its cases here"


@pytest.fixture
def cases(world: World) -> list[Case]:
    rules = {rule.rule for rule in world.client.application.url_map.iter_rules()}
    return [case for rule, cases in CASES.items() if rule in rules for case in cases]


def test_names_that_attackers_try(world: World, cases: list[Case]) -> None:
    for text in HOSTILE:
        for case in cases:
            world.check(case, text)


_property = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


@settings(_property, max_examples=20)
@given(text=texts)
def test_other_names(world: World, cases: list[Case], text: str) -> None:
    for case in cases:
        world.check(case, text)


@pytest.mark.slow
@settings(_property, max_examples=600)
@given(text=texts)
def test_many_other_names(world: World, cases: list[Case], text: str) -> None:
    for case in cases:
        world.check(case, text)
