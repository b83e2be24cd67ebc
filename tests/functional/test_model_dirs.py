"""Models in folders of the operator's, named by their paths."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.functional.conftest import LOADED, MakeClient
from tests.hub_cache import minilm_files

DEMO = "hugging-llama/demo:latest"
INVALID = (400, {"error": "invalid model name"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`<root>/mini`, `<root>/deep/mini`, a link in it that leads out, and a model beside it."""
    root = tmp_path / "srv" / "models"
    (root / "deep").mkdir(parents=True)
    (root / "mini").symlink_to(minilm_files())
    real = tmp_path / "srv" / "secret"
    for folder in (root / "real", root / "deep" / "mini", real):
        folder.mkdir()
        for path in minilm_files().iterdir():
            (folder / path.name).symlink_to(path)
    (root / "way-out").symlink_to(real)
    (root / "bad:name").symlink_to(root / "real")
    (root / "file").write_text("x")
    return root


def test_ps_describes_a_model_that_another_server_has_loaded(make_client: MakeClient, root: Path) -> None:
    client, _ = make_client(loaded=[replace(LOADED, name=f"{root}/real", path=f"{root}/real")])
    (row,) = client.get("/api/ps").get_json()["models"]
    found = {key: row["details"].get(key) for key in ("format", "family", "quantization_level")}
    assert found == {"format": "safetensors", "family": "bert", "quantization_level": "F32"}


def test_they_are_listed_shown_and_used_by_their_path(make_client: MakeClient, root: Path) -> None:
    client, engine = make_client(model_dirs=(str(root),))
    listed = [model["name"] for model in client.get("/api/tags").get_json()["models"]]
    assert [name for name in listed if name.startswith("/")] == [f"{root}/real"]
    for name in (f"{root}/real", f"{root}/real:latest", f"{root}/deep/mini"):
        shown = client.post("/api/show", json={"model": name}).get_json()
        assert shown["capabilities"] == ["embedding"]
        answer = client.post("/api/embed", json={"model": name, "input": "x"}).get_json()
        assert answer["model"] == name
        assert engine.requests[-1].model.path == name.removesuffix(":latest")
    assert f"FROM {root}/deep/mini" in shown["modelfile"]


def test_a_model_can_be_made_of_one(make_client: MakeClient, root: Path) -> None:
    client, _ = make_client(model_dirs=(str(root),))
    made = client.post("/api/create", json={"model": "mine", "from": f"{root}/real", "stream": False})
    assert made.get_json() == {"status": "success"}
    copied = client.post("/api/copy", json={"source": f"{root}/deep/mini", "destination": "deep"})
    assert copied.status_code == 200
    for name, folder in (("mine", "real"), ("deep", "deep/mini")):
        shown = client.post("/api/show", json={"model": name}).get_json()
        assert shown["details"]["parent_model"] == f"{root}/{folder}"
    elsewhere, _ = make_client()
    assert elsewhere.post("/api/show", json={"model": "mine"}).status_code == 404, "no folder is allowed any more"
    assert DEMO in {model["name"] for model in elsewhere.get("/api/tags").get_json()["models"]}


def test_they_are_the_operators(make_client: MakeClient, root: Path) -> None:
    client, _ = make_client(model_dirs=(str(root),))
    response = client.delete("/api/delete", json={"model": f"{root}/real"})
    assert (response.status_code, response.get_json()) == (
        400,
        {"error": "this model lies in a folder of the server's operator, who can delete it there"},
    )
    for path, body in (
        ("create", {"model": f"{root}/new", "from": "demo"}),
        ("copy", {"source": "demo", "destination": f"{root}/new"}),
        ("pull", {"model": f"{root}/real"}),
    ):
        assert client.post(f"/api/{path}", json=body).status_code == 400, path


def test_what_lies_elsewhere_can_not_be_told_from_nothing(make_client: MakeClient, root: Path) -> None:
    client, _ = make_client(model_dirs=(str(root),))
    beside = root.parent / "secret"
    pairs = [
        (str(beside), str(root.parent / "nothin")),
        ("/etc/passwd", "/etc/nopass"),
        (f"{root}/way-out", f"{root}/way-in"),
        (f"{root}/file", f"{root}/none"),
        (f"{root}-2", f"{root}-3"),
    ]
    for endpoint, key in (("generate", "model"), ("show", "model"), ("delete", "model"), ("create", "from")):
        method = client.delete if endpoint == "delete" else client.post
        for there, absent in pairs:
            answers = []
            for name in (there, absent):
                response = method(f"/api/{endpoint}", json={"model": "mine", key: name, "prompt": "x"})
                answers.append((response.status_code, response.text.replace(name, "NAME")))
            assert answers[0] == answers[1], (endpoint, there)
            assert answers[0][0] == 404
    for name in (str(root), f"{root}/", f"{root}/../secret", f"{root}/real/../real", f"{root}//real", "/", "/.."):
        response = client.post("/api/show", json={"model": name})
        assert response.status_code in (400, 404), name


def test_without_the_setting_a_path_is_no_name(make_client: MakeClient, root: Path) -> None:
    client, _ = make_client()
    for name in (f"{root}/real", "/nothing", "/etc/passwd"):
        response = client.post("/api/show", json={"model": name})
        assert (response.status_code, response.get_json()) == INVALID
