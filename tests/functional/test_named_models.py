"""/api/create and /api/delete on the wire, and what the other endpoints make of a named model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hugging_llama.dialects.ollama.push import render_modelfile
from hugging_llama.errors import EngineDiedError
from hugging_llama.neutral.events import EngineStatus
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import GenerateRequest
from hugging_llama.testing import ScriptedEngine
from tests.functional.conftest import LOADED, MakeClient
from tests.hub_cache import MINILM

DEMO = "hugging-llama/demo"


def _create(client: FlaskClient, name: str = "mine", **body: Any) -> None:
    response = client.post("/api/create", json={"model": name, "from": DEMO, "stream": False, **body})
    assert (response.status_code, response.get_json()) == (200, {"status": "success"})


def _refused(client: FlaskClient, status: int = 400, **body: Any) -> str:
    response = client.post("/api/create", json={"model": "mine", "from": DEMO, **body})
    assert response.status_code == status, response.text
    (error,) = response.get_json().values()
    return str(error)


def _request(engine: ScriptedEngine) -> GenerateRequest:
    request = engine.requests[-1]
    assert isinstance(request, GenerateRequest)
    return request


def _listed(client: FlaskClient, name: str) -> dict[str, Any]:
    (found,) = (model for model in client.get("/api/tags").get_json()["models"] if model["name"] == name)
    return dict(found)


def test_what_a_model_requires_stays_with_it(make_client: MakeClient) -> None:
    client, _ = make_client()
    _create(client, "mine", requires="v0.1.0")
    shown = client.post("/api/show", json={"model": "mine"}).get_json()
    assert shown["requires"] == "0.1.0"
    assert "REQUIRES 0.1.0" in shown["modelfile"].splitlines()
    store = client.application.extensions["hugging_llama"].store
    assert "REQUIRES 0.1.0" in render_modelfile(store.resolve("mine")).splitlines()
    _create(client, "copy", **{"from": "mine"})
    _create(client, "later", **{"from": "mine", "requires": "0.2.0"})
    told = [
        client.post("/api/show", json={"model": name}).get_json().get("requires") for name in ("copy", "later", DEMO)
    ]
    assert told == ["0.1.0", "0.2.0", None]


def test_create_streams_what_it_does(make_client: MakeClient) -> None:
    client, _ = make_client()
    response = client.post("/api/create", json={"name": "mine", "model": "", "from": "demo", "quantize": "Q8_0"})
    assert response.content_type == "application/x-ndjson"
    found = [json.loads(line)["status"] for line in response.text.splitlines()]
    digest = _listed(client, f"{DEMO}:latest")["digest"]
    assert found == [f"using existing layer sha256:{digest}", "writing manifest", "success"]


def test_what_tags_and_show_say_of_a_named_model(make_client: MakeClient) -> None:
    client, _ = make_client()
    parameters = {
        "temperature": 0.25, "num_ctx": 512, "num_predict": -1, "stop": ["END", "."],
        "logit_bias": {"5": 1, "a": -1}, "bad_words": ["x"], "bad_words_ids": [[7, 8]],
    }  # fmt: skip
    _create(client, "Mine", quantize="int4", parameters=parameters, system="Be brief.")
    base, mine = _listed(client, f"{DEMO}:latest"), _listed(client, "Mine:latest")
    assert mine["digest"] != base["digest"]
    assert {**mine["details"], "parent_model": "", "quantization_level": "BF16"} == base["details"]
    assert (mine["details"]["parent_model"], mine["details"]["quantization_level"]) == (f"{DEMO}:latest", "INT4")
    shown = client.post("/api/show", json={"model": "mine"}).get_json()
    assert (shown["details"]["parent_model"], shown["details"]["quantization_level"]) == (f"{DEMO}:latest", "INT4")
    assert shown["system"] == "Be brief."
    assert shown["template"]
    lines = dict(line.split(maxsplit=1) for line in shown["parameters"].splitlines())
    assert {name: lines[name] for name in parameters} == {
        "temperature": "0.25", "num_ctx": "512", "num_predict": "-1", "stop": '"."',
        "logit_bias": '{"5":1.0,"a":-1.0}', "bad_words": '"x"', "bad_words_ids": "[7,8]",
    }  # fmt: skip
    modelfile = shown["modelfile"].splitlines()
    assert modelfile[1:5] == [
        "# For the same weights create it with --quantize int4", "", f"FROM {DEMO}:latest", "SYSTEM Be brief.",
    ]  # fmt: skip
    assert {"PARAMETER temperature 0.25", "PARAMETER stop END", "PARAMETER stop ."} < set(modelfile)
    assert {line.split()[0] for line in modelfile[4:]} == {"SYSTEM", "PARAMETER"}, "the rest comes with the base"
    exact = client.post("/api/show", json={"model": DEMO, "options": {"num_ctx": 512}}).get_json()
    assert shown["memory"]["num_ctx"] == 512
    assert shown["memory"]["weights"] < exact["memory"]["weights"]
    assert client.post("/api/show", json={"model": "mine", "system": "Other."}).get_json()["system"] == "Other."


def test_requests_lie_over_the_named_model_and_that_over_the_files(make_client: MakeClient) -> None:
    client, engine = make_client()
    _create(client, parameters={"temperature": 0.25, "top_k": 7, "num_ctx": 512}, system="Be brief.", quantize="int8")
    client.post("/api/generate", json={"model": "mine", "prompt": "x", "options": {"top_k": 9}}).get_data()
    request = _request(engine)
    assert (request.model.name, request.model.quantization) == ("mine:latest", "int8")
    assert (request.sampling.temperature, request.sampling.top_k, request.context_length) == (0.25, 9, 512)
    client.post("/api/generate", json={"model": DEMO, "prompt": "x", "options": {"top_k": 9}}).get_data()
    plain = _request(engine)
    assert plain.sampling == replace(request.sampling, temperature=plain.sampling.temperature)
    assert (plain.sampling.temperature, plain.context_length, plain.model.quantization) != (0.25, 512, "int8")
    client.post("/api/generate", json={"model": "mine"})
    assert engine.requests[-1].context_length == 512
    client.post("/api/generate", json={"model": "mine", "options": {"num_ctx": 256}})
    assert engine.requests[-1].context_length == 256


@pytest.mark.parametrize(
    ("path", "body", "roles"),
    [
        ("generate", {"prompt": "x"}, ["system: Be brief.", "user: x"]),
        ("generate", {"prompt": "x", "system": "Mine."}, ["system: Mine.", "user: x"]),
        ("generate", {"prompt": "x", "context": [1, 2]}, ["user: x"]),
        ("chat", {"messages": [{"role": "user", "content": "x"}]}, ["system: Be brief.", "user: x"]),
        (
            "chat",
            {"messages": [{"role": "system", "content": "Mine."}, {"role": "user", "content": "x"}]},
            ["system: Mine.", "user: x"],
        ),
    ],
)
def test_the_system_text_is_for_requests_without_one(
    make_client: MakeClient, path: str, body: dict[str, Any], roles: list[str]
) -> None:
    client, engine = make_client()
    _create(client, system="Be brief.")
    client.post(f"/api/{path}", json={"model": "mine", **body}).get_data()
    prompt: Any = _request(engine).prompt
    assert [f"{message.role}: {message.content}" for message in prompt.messages] == roles


def test_a_raw_prompt_has_no_system_text(make_client: MakeClient) -> None:
    client, engine = make_client()
    _create(client, system="Be brief.")
    client.post("/api/generate", json={"model": "mine", "prompt": "x", "raw": True}).get_data()
    assert _request(engine).prompt.text == "x"  # type: ignore[union-attr]


def test_a_model_made_from_a_named_one_has_what_that_has(make_client: MakeClient) -> None:
    client, engine = make_client()
    _create(client, quantize="int8", parameters={"temperature": 0.25, "top_k": 7}, system="Be brief.")
    _create(client, "other", **{"from": "mine", "parameters": {"top_k": 9}})
    _create(client, "exact", **{"from": "mine", "quantize": "f16"})
    assert client.delete("/api/delete", json={"model": "mine"}).status_code == 200
    for name, top_k, quantization in (("other", 9, "int8"), ("exact", 7, "none")):
        client.post("/api/generate", json={"model": name, "prompt": "x"}).get_data()
        request = _request(engine)
        assert (request.sampling.temperature, request.sampling.top_k) == (0.25, top_k)
        assert request.model.quantization == quantization
        assert request.prompt.messages[0].content == "Be brief."  # type: ignore[union-attr]
        assert _listed(client, f"{name}:latest")["details"]["parent_model"] == f"{DEMO}:latest"


def test_creating_again_replaces_and_unloads(make_client: MakeClient) -> None:
    client, engine = make_client(loaded=[LOADED, replace(LOADED, name="Mine:latest", path="/p", quantization="int8")])
    _create(client, "Mine", quantize="int8")
    assert engine.unloaded == []
    _create(client, "mine", quantize="int4")
    assert [(ref.path, ref.quantization) for ref in engine.unloaded] == [("/p", "int8")]
    assert _listed(client, "Mine:latest")["details"]["quantization_level"] == "INT4"
    assert len(client.get("/api/tags").get_json()["models"]) == 3


def test_delete_unloads_and_forgets(make_client: MakeClient) -> None:
    row = replace(LOADED, name="mine:latest", path="/p", quantization="int8")
    client, engine = make_client(loaded=[LOADED, row])
    _create(client, quantize="int8")
    response = client.delete("/api/delete", json={"name": "MINE:latest"})
    assert (response.status_code, response.data) == (200, b"")
    assert engine.unloaded == [ModelRef(name="mine:latest", path="/p", digest=row.digest, quantization="int8")]
    assert client.post("/api/show", json={"model": "mine"}).status_code == 404
    again = client.delete("/api/delete", json={"model": "mine"})
    assert (again.status_code, again.get_json()) == (404, {"error": "model 'mine' not found"})
    for body, error in (({}, "model is required"), ({"model": "../x"}, 'name "../x" is invalid')):
        bad = client.delete("/api/delete", json=body)
        assert (bad.status_code, bad.get_json()) == (400, {"error": error})


def test_a_named_model_in_memory_is_a_row_of_its_own(make_client: MakeClient) -> None:
    loaded: list[Any] = []
    client, _ = make_client(loaded=loaded)
    _create(client, quantize="int8")
    path = client.application.extensions["hugging_llama"].store.resolve("mine").ref.path
    rows = [replace(LOADED, path=path), replace(LOADED, name="mine:latest", path=path, quantization="int8")]
    client, _ = make_client(loaded=rows)
    details = {model["name"]: model["details"] for model in client.get("/api/ps").get_json()["models"]}
    assert details[f"{DEMO}:latest"]["quantization_level"] == "BF16"
    assert details["mine:latest"]["quantization_level"] == "INT8"
    assert {value["parent_model"] for value in details.values()} == {""}


@pytest.mark.parametrize(
    ("names", "quantization"),
    [
        ("int8 q8_0 Q8_0", "int8"),
        ("int4 q4_0 q4_1 q4_K_M Q4_K_S", "int4"),
        ("none f16 BF16", "none"),
    ],
)
def test_ollamas_names_of_quantizations(make_client: MakeClient, names: str, quantization: str) -> None:
    client, engine = make_client()
    for field, name in [("quantize", name) for name in names.split()] + [("quantization", names.split()[0])]:
        _create(client, **{field: name})
        client.post("/api/generate", json={"model": "mine"})
        assert engine.requests[-1].model.quantization == quantization


def test_without_a_quantization_the_settings_hold(make_client: MakeClient) -> None:
    client, engine = make_client(quantize="int8")
    _create(client, quantize="")
    client.post("/api/generate", json={"model": "mine"})
    assert engine.requests[-1].model.quantization == ""
    assert "int4, q4_0" in _refused(client, quantize="q5_K_M")
    assert "Q5_K_M" in _refused(client, quantize="q5_K_M")


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"model": ""}, 400, "invalid model name"),
        ({"model": "../mine"}, 400, "invalid model name"),
        ({"model": "hf.co/a/b"}, 400, "invalid model name"),
        ({"model": "demo"}, 400, "belongs to a model of the Hub"),
        ({"model": MINILM.lower()}, 400, "belongs to a model of the Hub"),
        ({"from": ""}, 400, "neither 'from' or 'files' was specified"),
        ({"from": 5}, 400, "json: cannot unmarshal number"),
        ({"license": [5]}, 400, "license must be a text or a list of texts"),
        ({"license": {}}, 400, "license must be a text or a list of texts"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "message role must be one of"),
        ({"messages": [{"role": "user", "images": ["x"]}]}, 400, "a message of a model is a text"),
        ({"renderer": "qwen3"}, 400, "renderer is not supported"),
        ({"Parser": "qwen3"}, 400, "parser is not supported"),
        ({"info": {"a": 1}}, 400, "info is not supported"),
        ({"remote_host": "x"}, 400, "remote_host is not supported"),
        ({"draft_files": {"a": "b"}}, 400, "draft_files is not supported"),
        ({"draft_quantize": "q8_0"}, 400, "draft_quantize is not supported"),
        ({"modelfile": "FROM x"}, 400, "send its lines as fields"),
        ({"modelfile": "FROM x", "from": ""}, 400, "neither 'from' or 'files' was specified"),
        ({"path": "/etc/passwd", "from": ""}, 400, "neither 'from' or 'files' was specified"),
        ({"requires": "99.0.0"}, 400, "the model requires version 99.0.0"),
        ({"requires": "new"}, 400, "requires must be a version"),
        ({"parameters": {"nonsense": 1}}, 400, "unknown parameter 'nonsense'"),
        ({"parameters": {"temperature": "hot"}}, 400, 'option "temperature" must be of type float32'),
        ({"parameters": {"num_return_sequences": 2}}, 400, "is not supported"),
    ],
)
def test_what_create_refuses(make_client: MakeClient, body: dict[str, Any], status: int, error: str) -> None:
    client, _ = make_client()
    assert error in _refused(client, status, **body)
    assert len(client.get("/api/tags").get_json()["models"]) == 2, "and nothing was made"


def test_a_disk_that_fails_is_said_to_fail(make_client: MakeClient, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    client, _ = make_client(home=str(tmp_path / "home"))
    assert "can't be written" in _refused(client, 500)


def test_empty_fields_of_other_clients_are_no_fields(make_client: MakeClient) -> None:
    client, _ = make_client()
    _create(client, files={}, adapters=None, template="", license=[], messages=[], parameters=None, system="")


def test_quantised_models_are_for_cpus_and_exact_weights(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client, engine = make_client()
    monkeypatch.setattr(engine, "status", lambda timeout_s: EngineStatus(pid=1, device="cuda:0"))
    assert "this server uses cuda:0" in _refused(client, quantize="int8")
    _create(client, quantize="bf16")

    def dead(timeout_s: float) -> EngineStatus:
        raise EngineDiedError("no engine is running")

    client, engine = make_client(device="mps")
    monkeypatch.setattr(engine, "status", dead)
    assert "this server uses mps" in _refused(client, quantize="int4")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(text=st.text(max_size=40) | st.text(alphabet="ab./\\:-_ \0\n~%", max_size=12))
def test_hostile_names_reach_no_file_outside(make_client: MakeClient, tmp_path: Path, text: str) -> None:
    before = {path for path in tmp_path.rglob("*") if "models" not in path.parts}
    client, _ = make_client()
    for path, method in (("create", client.post), ("delete", client.delete), ("show", client.post)):
        response = method(f"/api/{path}", json={"model": text, "from": DEMO, "quantize": "int8"})
        assert response.status_code in (200, 400, 404)
    after = {path for path in tmp_path.rglob("*") if "models" not in path.parts}
    made = {str(path.relative_to(tmp_path)) for path in after - before if path.is_file()}
    home = ".cache/hugging-llama"
    assert made <= {f"{home}/format", f"{home}/.format.lock"}
