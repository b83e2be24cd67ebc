"""Who may come in: keys, roles, patterns of models and limits, in front of every route."""

import functools
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from hugging_llama.dialects.documented import operation_of
from hugging_llama.neutral.events import Finished, FinishReason, Started, TextDelta, Usage
from hugging_llama.neutral.requests import GenerateRequest
from hugging_llama.testing import ScriptedEngine
from hugging_llama.web import access
from hugging_llama.web.limits import Bucket
from hugging_llama_config.keys import add_key, new_key, revoke_key
from hugging_llama_config.settings import Settings
from tests.functional.conftest import LOADED, MakeClient
from tests.hub_cache import MINILM

DEMO = "hugging-llama/demo"
CHAT = {"model": DEMO, "messages": [{"role": "user", "content": "Hi"}], "stream": False, "max_tokens": 9}
OPEN = {"/", "/api/version", "/health", "/ready", "/docs", "/docs/<name>", "/openapi.json"}


@pytest.fixture
def keys(tmp_path: Path) -> str:
    return str(tmp_path / "keys.json")


@pytest.fixture(autouse=True)
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bucket fills while a slow machine gets on."""
    monkeypatch.setattr(access, "Bucket", functools.partial(Bucket, clock=lambda: 1000.0))


@pytest.fixture
def home_keys(settings: Settings) -> str:
    """Where nobody has named a file: it may be there or not."""
    return settings.keys_path


def make_key(keys: str, name: str = "k", **options: Any) -> dict[str, str]:
    """The header of a new key."""
    key, secret = new_key(name, **{"roles": ("use",), **options})
    add_key(keys, key)
    return {"Authorization": f"Bearer {secret}"}


def ask(client: FlaskClient, headers: dict[str, str], path: str = "/api/chat", body: Any = CHAT) -> int:
    return client.post(path, json=body, headers=headers).status_code


def test_every_route_asks_for_a_role_or_is_open_on_purpose(make_client: MakeClient) -> None:
    app = make_client()[0].application
    roles = {}
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        assert operation is not None, rule.rule
        roles[rule.rule] = operation.role
    assert {path for path, role in roles.items() if role is None} == OPEN
    assert {path for path, role in roles.items() if role == "metrics"} == {"/metrics"}
    assert {path for path, role in roles.items() if role == "manage"} == {
        "/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/<digest>",
    }  # fmt: skip


def test_without_a_file_everybody_may_come_in(make_client: MakeClient) -> None:
    assert ask(make_client()[0], {"Authorization": "Bearer whatever"}) == 200


def test_no_route_but_the_open_ones_is_served_without_a_key(make_client: MakeClient, keys: str) -> None:
    client, engine = make_client(keys_file=keys)
    make_key(keys)
    for rule in client.application.url_map.iter_rules():
        path = rule.rule.replace("<digest>", "sha256:" + "a" * 64).replace("<path:", "<").replace("<name>", "docs.js")
        path = path.replace("<id>", "resp_x").replace("<key>", "x")
        for method in (rule.methods or set()) - {"HEAD"} or {"HEAD"}:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"x-api-key": "\u00e9"}):
                response = client.open(path, method=method, json={"model": DEMO}, headers=headers)
                assert (response.status_code == 401) == (rule.rule not in OPEN), (method, path)
    assert engine.requests == []


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/api/chat", {"error": "a valid API key is needed"}),
        ("/v1/chat/completions", {"type": "api_error", "code": "key_rejected"}),
        ("/v1/messages", {"type": "authentication_error"}),
    ],
)
def test_each_dialect_refuses_in_its_own_shape(
    make_client: MakeClient, keys: str, path: str, error: dict[str, str]
) -> None:
    client, _ = make_client(keys_file=keys)
    make_key(keys)
    response = client.post(path, json=CHAT)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="hugging-llama"'
    found = response.get_json()
    facts = found["error"] if isinstance(found["error"], dict) else found
    assert facts.items() >= error.items()


def test_both_headers_are_read(make_client: MakeClient, keys: str) -> None:
    client, _ = make_client(keys_file=keys)
    secret = make_key(keys)["Authorization"].removeprefix("Bearer ")
    for headers in ({"Authorization": f"bearer {secret}"}, {"x-api-key": secret}, {"X-API-Key": secret}):
        assert ask(client, headers) == 200
    for headers in ({"Authorization": secret}, {"Authorization": f"Basic {secret}"}, {"x-api-key": secret + " "}):
        assert ask(client, headers) in (200, 401)
    assert ask(client, {"Authorization": f"Basic {secret}"}) == 401


def test_roles(make_client: MakeClient, keys: str) -> None:
    client, _ = make_client(keys_file=keys)
    use, manage = make_key(keys, "u"), make_key(keys, "m", roles=("manage",))
    metrics, admin = make_key(keys, "s", roles=("metrics",)), make_key(keys, "a", roles=("admin",))

    def statuses(headers: dict[str, str]) -> list[int]:
        return [
            ask(client, headers),
            ask(client, headers, "/api/copy", {"source": DEMO, "destination": "x"}),
            client.get("/metrics", headers=headers).status_code,
        ]

    assert statuses(use) == [200, 403, 403]
    assert statuses(manage) == [403, 200, 403]
    assert statuses(metrics) == [403, 403, 200]
    assert statuses(admin) == [200, 200, 200]
    refused = client.get("/metrics", headers=use).get_json()
    assert refused == {"error": "this key may not do this: it has no role 'metrics'"}


def test_a_key_that_comes_and_goes_counts_at_once(make_client: MakeClient, home_keys: str) -> None:
    client, _ = make_client()
    assert ask(client, {}) == 200
    headers = make_key(home_keys, "a")
    assert [ask(client, {}), ask(client, headers)] == [401, 200]
    other = make_key(home_keys, "b")
    revoke_key(home_keys, "a")
    assert [ask(client, headers), ask(client, other)] == [401, 200]
    revoke_key(home_keys, "b")
    # without a key in it the file keeps everybody out
    assert [ask(client, {}), ask(client, other)] == [401, 401]


@pytest.mark.parametrize("damage", ["gone", "rubbish", "format", "role", "priority"])
def test_a_damaged_file_opens_no_door(
    make_client: MakeClient, keys: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = make_client(keys_file=keys)
    headers = make_key(keys)
    assert ask(client, headers) == 200
    if damage == "gone":
        os.unlink(keys)
    elif damage == "rubbish":
        Path(keys).write_text("{")
    else:
        table = json.loads(Path(keys).read_text())
        if damage == "format":
            table["format"] = 99
        elif damage == "priority":  # no frame to the engine has room for it
            table["keys"][0]["priority"] = 10**20
        else:
            table["keys"][0]["roles"] = ["god"]
        Path(keys).write_text(json.dumps(table))
    assert [ask(client, {}), ask(client, headers)] == [401, 200]
    if damage != "gone":
        assert "the keys from before go on to hold" in caplog.text


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        (("hugging-llama/*",), True), (("HUGGING-LLAMA/Demo",), True), (("*/demo:latest",), True),
        (("qwen/*", "*demo"), True), (("demo",), True),
        (("sentence-transformers/*",), False), (("dem",), False), (("hugging-llama",), False),
    ],
)  # fmt: skip
def test_models_by_pattern(make_client: MakeClient, keys: str, patterns: tuple[str, ...], allowed: bool) -> None:
    client, _ = make_client(keys_file=keys, loaded=[LOADED])
    headers = make_key(keys, models=patterns, roles=("use", "manage"))
    for path, body in (
        ("/api/chat", CHAT), ("/api/chat", {**CHAT, "model": "Hugging-Llama/DEMO:latest"}),
        ("/api/chat", {**CHAT, "model": "hf.co/hugging-llama/demo"}), ("/v1/chat/completions", CHAT),
        ("/v1/messages", CHAT), ("/v1/responses", {"model": DEMO, "input": "x"}), ("/api/show", {"model": DEMO}),
    ):  # fmt: skip
        assert ask(client, headers, path, body) == (200 if allowed else 403), path
    listed = {model["name"] for model in client.get("/api/tags", headers=headers).get_json()["models"]}
    assert (f"{DEMO}:latest" in listed) == allowed
    assert (client.get(f"/v1/models/{DEMO}", headers=headers).status_code == 200) == allowed
    assert bool(client.get("/api/ps", headers=headers).get_json()["models"]) == allowed
    if not allowed:
        assert ask(client, headers, "/api/create", {"model": "sentence-transformers/mine", "from": DEMO}) == 403
        assert ask(client, headers, "/api/copy", {"source": DEMO, "destination": "sentence-transformers/x"}) == 403
        assert client.delete("/api/delete", json={"model": DEMO}, headers=headers).status_code == 403
        assert ask(client, headers, "/api/pull", {"model": DEMO, "stream": False}) == 403
        assert ask(client, headers, "/api/push", {"model": DEMO, "stream": False}) == 403


def test_so_many_requests_a_minute(make_client: MakeClient, keys: str) -> None:
    client, _ = make_client(keys_file=keys)
    headers, other = make_key(keys, requests_per_minute=3), make_key(keys, "other")
    assert [ask(client, headers) for _ in range(3)] == [200] * 3
    refused = client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert (refused.status_code, refused.get_json()["error"]["type"]) == (429, "rate_limit_error")
    assert int(refused.headers["Retry-After"]) == 20
    assert client.post("/v1/messages", json=CHAT, headers=headers).get_json()["error"]["type"] == "rate_limit_error"
    assert client.post("/api/chat", json=CHAT, headers=headers).get_json()["error"] == (
        "too many requests a minute with this key"
    )
    assert ask(client, other) == 200
    # another worker knows of it
    assert ask(make_client(keys_file=keys)[0], headers) == 429


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
def test_so_many_tokens_a_minute(make_client: MakeClient, keys: str, path: str, stream: bool) -> None:
    end = Finished(reason=FinishReason.STOP, usage=Usage(num_prompt_tokens=60, num_output_tokens=50))
    client, _ = make_client(keys_file=keys, generate=[TextDelta("Hi"), end])
    headers = make_key(keys, tokens_per_minute=100)
    first = client.post(path, json=CHAT | {"stream": stream, "max_tokens": 50}, headers=headers)
    assert (first.status_code, bool(first.data)) == (200, True)
    assert first.headers["x-ratelimit-limit-tokens"] == "100"
    refused = client.post(path, json=CHAT, headers=headers)
    error = refused.get_json()["error"]
    assert refused.status_code == 429
    assert (error if path == "/api/chat" else error["message"]) == "too many tokens a minute with this key"
    assert int(refused.headers["Retry-After"]) == 7  # 10 tokens overdrawn, and one to begin with


@pytest.mark.parametrize(
    "limits", [{"requests_per_minute": 1}, {"tokens_per_minute": 1}, {"requests_per_minute": 1, "tokens_per_minute": 9}]
)
def test_every_answer_to_a_key_tells_its_limits(make_client: MakeClient, keys: str, limits: dict[str, int]) -> None:
    end = Finished(reason=FinishReason.STOP, usage=Usage(num_prompt_tokens=6, num_output_tokens=5))
    client, _ = make_client(keys_file=keys, generate=[TextDelta("Hi"), end])
    headers = make_key(keys, "k", **limits)
    told = {f"x-ratelimit-limit-{name.partition('_')[0]}": str(limit) for name, limit in limits.items()}
    answers = [client.get("/metrics", headers=headers), client.post("/api/chat", json=CHAT, headers=headers)]
    answers += [client.post(path, json=CHAT, headers=headers) for path in ("/v1/chat/completions", "/v1/messages")]
    assert [answer.status_code for answer in answers] == [403, 200, 429, 429]
    for answer in answers:
        assert {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit")} == told


def test_a_prompt_of_several_answers_counts_once(make_client: MakeClient, keys: str) -> None:
    end = Finished(reason=FinishReason.STOP, usage=Usage(num_prompt_tokens=60, num_output_tokens=5))
    client, _ = make_client(keys_file=keys, generate=[TextDelta("Hi"), end])
    headers = make_key(keys, tokens_per_minute=76)  # 60 + 3 * 5, and one to begin with
    body = CHAT | {"n": 3}
    answer = client.post("/v1/chat/completions", json=body, headers=headers).get_json()
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (60, 15)
    assert [ask(client, headers, "/v1/chat/completions", body) for _ in range(2)] == [200, 429]
    metrics = client.get("/metrics", headers=make_key(keys, "m", roles=["metrics"])).get_data(as_text=True)
    counted = [line for line in metrics.splitlines() if line.startswith("hugging_llama_key_prompt_tokens_total")]
    assert [float(line.split()[-1]) for line in counted] == [120.0]


@pytest.mark.parametrize("stream", [True, False])
def test_a_kept_response_is_there_for_its_key_alone(make_client: MakeClient, keys: str, stream: bool) -> None:
    end = Finished(reason=FinishReason.STOP, usage=Usage(num_prompt_tokens=6, num_output_tokens=5))
    client, _ = make_client(keys_file=keys, generate=[TextDelta("Hi"), end])
    mine, other = make_key(keys), make_key(keys, "other")
    body = {"model": "demo", "input": "Hello", "stream": stream}
    answer = client.post("/v1/responses", json=body, headers=mine).get_data(as_text=True)
    id = re.search(r"resp_\w+", answer)
    assert id is not None
    path = f"/v1/responses/{id[0]}"
    assert client.get(path, headers=other).status_code == 404
    assert client.delete(path, headers=other).status_code == 404
    assert client.get(f"{path}/input_items", headers=other).status_code == 404
    going_on = {"model": "demo", "input": "And?", "previous_response_id": id[0]}
    assert ask(client, other, "/v1/responses", going_on) == 400
    assert ask(client, mine, "/v1/responses", going_on) == 200
    assert client.get(path, headers=mine).status_code == 200


def test_embeddings_count_and_so_do_answers_that_nobody_waits_for(make_client: MakeClient, keys: str) -> None:
    client, _ = make_client(keys_file=keys, generate=[TextDelta("a")] * 40)
    headers = make_key(keys, tokens_per_minute=30)
    response = client.post("/api/chat", json=CHAT | {"stream": True}, headers=headers, buffered=False)
    chunks = response.iter_encoded()
    for _ in range(35):
        next(chunks)
    response.close()
    assert ask(client, headers) == 429
    embedder = make_key(keys, "e", tokens_per_minute=5)
    body = {"model": MINILM, "input": ["one"] * 5}
    assert [ask(client, embedder, "/api/embed", body) for _ in range(2)] == [200, 429]


def test_a_prompt_is_paid_for_by_who_leaves_before_the_end(make_client: MakeClient, keys: str) -> None:
    begun = Started(num_prompt_tokens=60, num_cached_tokens=0, num_truncated_tokens=0)
    client, engine = make_client(keys_file=keys, generate=[begun, *[TextDelta("a")] * 40])
    headers = make_key(keys, tokens_per_minute=50)
    response = client.post("/api/chat", json=CHAT | {"stream": True}, headers=headers, buffered=False)
    next(response.iter_encoded())
    response.close()
    assert ask(client, headers) == 429
    assert ask(client, make_key(keys, "other")) == 200
    told = [request.tells_start for request in engine.requests if isinstance(request, GenerateRequest)]
    assert told == [True, False], "where nobody counts, nobody need be told"


def test_no_secret_is_kept_or_logged(make_client: MakeClient, keys: str, caplog: pytest.LogCaptureFixture) -> None:
    client, _ = make_client(keys_file=keys)
    secret = make_key(keys)["Authorization"].removeprefix("Bearer ")
    with caplog.at_level(logging.DEBUG):
        ask(client, {"Authorization": f"Bearer {secret}"})
        ask(client, {"x-api-key": secret + "x"})
    assert secret not in caplog.text
    assert secret not in Path(keys).read_text()
    assert os.stat(keys).st_mode & 0o777 == 0o600


def test_a_mounted_application_has_its_own_doors(keys: str, make_client: MakeClient) -> None:
    from flask import Flask

    from hugging_llama import create_blueprint

    settings = make_client()[0].application.extensions["hugging_llama"].settings
    make_key(keys)
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(settings, engine=ScriptedEngine()), url_prefix="/llm")
    assert app.test_client().post("/llm/api/chat", json=CHAT).status_code == 200
