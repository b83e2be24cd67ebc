"""/api/copy and /api/delete on the wire."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from hugging_llama.errors import EngineDiedError
from hugging_llama.neutral.models import ModelRef
from hugging_llama.store.manifests import Manifest, Source
from tests.functional.conftest import LOADED, MakeClient
from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files

DEMO = "hugging-llama/demo"


def _create(client: FlaskClient, name: str, **body: Any) -> None:
    response = client.post("/api/create", json={"model": name, "from": DEMO, "stream": False, **body})
    assert response.status_code == 200, response.text


def _copy(client: FlaskClient, source: str, destination: str) -> None:
    response = client.post("/api/copy", json={"source": source, "destination": destination})
    assert (response.status_code, response.data) == (200, b""), response.text


def _listed(client: FlaskClient) -> dict[str, Any]:
    return {model["name"]: model for model in client.get("/api/tags").get_json()["models"]}


def _show(client: FlaskClient, name: str) -> Any:
    return client.post("/api/show", json={"model": name}).get_json()


@pytest.fixture
def own_cache(tmp_path: Path) -> Path:
    """A cache that a test may empty, with `acme/mini`."""
    cache = tmp_path / "own-cache"
    add_to_hub_cache(cache, "acme/mini", minilm_files())
    return cache


def test_a_copy_is_the_model_under_another_name(make_client: MakeClient) -> None:
    client, engine = make_client()
    _create(client, "mine", system="Be brief.", quantize="int8", parameters={"top_k": 7})
    _copy(client, "MINE", "Acme/Other:v1")
    listed = _listed(client)
    mine, other = listed["mine:latest"], listed["Acme/Other:v1"]
    assert {**other, "name": "", "model": "", "modified_at": ""} == {**mine, "name": "", "model": "", "modified_at": ""}
    client.post("/api/generate", json={"model": "acme/other:V1", "prompt": "x"}).get_data()
    assert (engine.requests[-1].model.name, engine.requests[-1].model.quantization) == ("Acme/Other:v1", "int8")
    _copy(client, "demo", "plain")
    assert _show(client, "plain")["details"]["parent_model"] == f"{DEMO}:latest"


def test_a_copy_overwrites_a_named_model_and_unloads_it(make_client: MakeClient) -> None:
    row = replace(LOADED, name="Other:latest", path="/p", quantization="int8")
    client, engine = make_client(loaded=[LOADED, row])
    _create(client, "Other", quantize="int8")
    _create(client, "mine", quantize="int4")
    _copy(client, "mine", "other")
    assert [ref.path for ref in engine.unloaded] == ["/p"]
    assert _listed(client)["Other:latest"]["details"]["quantization_level"] == "INT4"
    _copy(client, "other", "OTHER")
    assert len(engine.unloaded) == 1, "it is what it was"


@pytest.mark.parametrize(
    ("source", "destination", "status", "error"),
    [
        ("", "x", 400, 'source "" is invalid'),
        ("../x", "y", 400, 'source "../x" is invalid'),
        ("demo", "", 400, 'destination "" is invalid'),
        ("demo", "a/b/c", 400, 'destination "a/b/c" is invalid'),
        ("demo", "hf.co/a/b", 400, 'destination "hf.co/a/b" is invalid'),
        ("demo", "/tmp/x", 400, 'destination "/tmp/x" is invalid'),
        ("acme/none", "x", 404, 'model "acme/none" not found'),
        ("demo", MINILM.upper(), 400, "this name belongs to a model of the Hub; choose another one"),
        ("demo", "x:cloud", 403, "ollama cloud is disabled: remote model is unavailable"),
        (5, "x", 400, "json: cannot unmarshal number into Go struct field CopyRequest.source of type string"),
    ],
)
def test_copies_that_are_refused(
    make_client: MakeClient, source: Any, destination: str, status: int, error: str
) -> None:
    client, _ = make_client()
    response = client.post("/api/copy", json={"source": source, "destination": destination})
    assert (response.status_code, response.get_json()) == (status, {"error": error})
    assert len(_listed(client)) == 2


def test_a_copy_has_the_digest_of_its_source(make_client: MakeClient, own_cache: Path) -> None:
    client, _ = make_client(hub_cache=str(own_cache))
    _create(client, "brief", system="Be brief.")
    for source, name in (("acme/mini", "mini"), ("demo", "show"), ("brief", "short")):
        _copy(client, source, name)
    found = {name.partition(":")[0]: model["digest"] for name, model in _listed(client).items()}
    assert (found["mini"], found["show"], found["short"]) == (found["acme/mini"], found[DEMO], found["brief"])
    assert len(set(found.values())) == 3


def test_a_named_model_stays_its_users_beside_the_hubs_of_its_name(make_client: MakeClient, own_cache: Path) -> None:
    client, engine = make_client(hub_cache=str(own_cache))
    store = client.application.extensions["hugging_llama"].store
    store.named.write(Manifest(name="acme/mini:latest", source=Source(base=f"{DEMO}:latest"), system="Be brief."))
    assert client.post("/api/show", json={"model": "Acme/Mini"}).get_json()["system"] == "Be brief."
    assert client.post("/api/generate", json={"model": "acme/mini", "prompt": "x", "stream": False}).status_code == 200
    assert engine.requests[-1].model.path == store.resolve("demo").ref.path
    _create(client, "acme/mini", **{"from": "demo", "system": "Be kind."})
    assert client.post("/api/show", json={"model": "acme/mini"}).get_json()["system"] == "Be kind."
    _copy(client, "demo", "acme/mini")
    assert "system" not in client.post("/api/show", json={"model": "acme/mini"}).get_json()
    pushed = client.post("/api/push", json={"model": "acme/mini"})
    assert "send a token" in pushed.get_json()["error"], "it is found, and asked for a token"


@pytest.mark.parametrize("body", [{"model": "ACME/Mine"}, {"name": "hf.co/acme/mine:main", "stream": False}])
def test_a_pull_hides_no_named_model(make_client: MakeClient, body: dict[str, Any]) -> None:
    client, _ = make_client(hub_endpoint="http://127.0.0.1:9")
    _create(client, "acme/mine")
    response = client.post("/api/pull", json=body)
    assert (response.status_code, response.get_json()) == (
        400,
        {
            "error": "acme/mine:latest is a model that was made here: before you pull the Hub's, copy it to another "
            "name and delete it, or pull another revision (a branch, a tag or a commit)"
        },
    )


def test_a_copy_keeps_the_commit_after_the_hubs_model_is_deleted(make_client: MakeClient, own_cache: Path) -> None:
    client, _ = make_client(hub_cache=str(own_cache))
    _copy(client, "acme/mini", "kept")
    before = _listed(client)
    deleted = client.delete("/api/delete", json={"model": "acme/mini"})
    assert (deleted.status_code, deleted.data, deleted.headers["X-Freed-Bytes"]) == (200, b"", "0")
    assert _listed(client) == {name: model for name, model in before.items() if name != "acme/mini:latest"}
    assert client.post("/api/embed", json={"model": "kept", "input": "x"}).status_code == 200
    last = client.delete("/api/delete", json={"model": "kept"})
    size = sum(path.stat().st_size for path in minilm_files().rglob("*") if path.is_file())
    assert int(last.headers["X-Freed-Bytes"]) >= size
    assert list(_listed(client)) == [f"{DEMO}:latest"]
    assert not (own_cache / "models--acme--mini").exists()


def test_a_model_of_the_hub_is_deleted_and_unloaded(make_client: MakeClient, own_cache: Path) -> None:
    client, engine = make_client(hub_cache=str(own_cache))
    path = client.application.extensions["hugging_llama"].store.resolve("acme/mini").ref.path
    rows = [replace(LOADED, name="acme/mini:latest", path=path), LOADED, replace(LOADED, name="under", path=path)]
    client, engine = make_client(hub_cache=str(own_cache), loaded=rows)
    response = client.delete("/api/delete", json={"name": "hf.co/ACME/mini"})
    assert response.status_code == 200
    assert [ref.name for ref in engine.unloaded] == ["acme/mini:latest", "under"]
    again = client.delete("/api/delete", json={"name": "hf.co/ACME/mini"})
    assert (again.status_code, again.get_json()) == (404, {"error": "model 'hf.co/ACME/mini' not found"})


def test_a_deletion_is_done_though_the_engine_is_lost(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client, engine = make_client(loaded=[replace(LOADED, name="mine:latest")])
    _create(client, "mine")

    def unload(model: ModelRef) -> None:
        raise EngineDiedError("the engine does not answer")

    monkeypatch.setattr(engine, "unload", unload)
    assert client.delete("/api/delete", json={"model": "mine"}).status_code == 200
    assert "mine:latest" not in _listed(client)


def test_the_demo_model_stays(make_client: MakeClient) -> None:
    client, _ = make_client()
    response = client.delete("/api/delete", json={"model": "demo"})
    assert response.status_code == 400
    assert response.get_json() == {"error": "the demo model comes with the server and can't be deleted"}
    assert f"{DEMO}:latest" in _listed(client)


@pytest.mark.parametrize("name", ["demo", f"{DEMO}:LATEST", f"hf.co/{DEMO}", "Hugging-Llama/DEMO:main", "demo:local"])
def test_answers_echo_the_name_as_it_was_sent(make_client: MakeClient, name: str) -> None:
    client, _ = make_client()
    for path, body in (("generate", {"prompt": "x"}), ("chat", {"messages": [{"role": "user", "content": "x"}]})):
        answer = client.post(f"/api/{path}", json={"model": name, "stream": False, **body})
        assert answer.get_json()["model"] == name


def test_embed_echoes_the_name_as_it_was_sent(make_client: MakeClient) -> None:
    client, _ = make_client()
    name = f"HF.co/{MINILM.upper()}"
    assert client.post("/api/embed", json={"model": name, "input": "x"}).get_json()["model"] == name


@pytest.mark.parametrize("ending", [":cloud", ":20b-cloud", ":CLOUD"])
def test_names_of_the_cloud_are_refused(make_client: MakeClient, ending: str) -> None:
    client, _ = make_client()
    for method, path, key, middle in (
        (client.post, "generate", "model", "model is"),
        (client.post, "chat", "model", "model is"),
        (client.post, "embed", "model", "model is"),
        (client.post, "show", "name", "model details are"),
        (client.post, "pull", "model", "model is"),
        (client.post, "create", "model", "model is"),
        (client.delete, "delete", "model", "model is"),
    ):
        response = method(f"/api/{path}", json={key: f"gpt-oss{ending}", "from": DEMO})
        assert response.status_code == 403, path
        assert response.get_json() == {"error": f"ollama cloud is disabled: remote {middle} unavailable"}
    both = client.post("/api/generate", json={"model": "x:cloud:local", "prompt": "x"})
    assert (both.status_code, both.get_json()) == (
        400,
        {"error": 'use either :local or :cloud, not both: "x:cloud:local"'},
    )


@pytest.mark.parametrize("name", ["a b", "a:b:c", "../x"])
def test_a_name_that_none_can_have_is_said_in_the_words_of_each_endpoint(make_client: MakeClient, name: str) -> None:
    client, _ = make_client()
    deleted = client.delete("/api/delete", json={"model": name})
    assert (deleted.status_code, deleted.get_json()) == (400, {"error": f'name "{name}" is invalid'})
    copied = client.post("/api/copy", json={"source": name, "destination": "x"})
    assert (copied.status_code, copied.get_json()) == (400, {"error": f'source "{name}" is invalid'})


def test_an_empty_answer_says_nothing_of_its_type(make_client: MakeClient) -> None:
    client, _ = make_client()
    copied = client.post("/api/copy", json={"source": DEMO, "destination": "bare"})
    deleted = client.delete("/api/delete", json={"model": "bare"})
    for response in (copied, deleted):
        assert (response.status_code, response.data) == (200, b"")
        assert "Content-Type" not in response.headers
