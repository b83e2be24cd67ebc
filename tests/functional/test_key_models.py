"""The models that a key may name: no spelling gets around its patterns, and none is refused for nothing, anywhere."""

import os
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.dialects.documented import operation_of
from hugging_llama.errors import CloudModelError, InvalidRequestError
from hugging_llama.operations.models import full_name
from hugging_llama.store.manifests import Manifest, Source
from hugging_llama.web.model_patterns import covers
from hugging_llama_config.keys import add_key, new_key
from hugging_llama_config.model_pattern import pattern_fault
from tests.functional.conftest import LOADED, MakeClient
from tests.hub_cache import MINILM

DEMO = "hugging-llama/demo"
DEMO_SPELLINGS = (
    DEMO, "Hugging-LLAMA/demo", f"{DEMO}:latest", f"{DEMO}:Latest", f"{DEMO}:main", f"{DEMO}:local",
    f"hf.co/{DEMO}", f"HF.co/{DEMO}:latest", f"https://huggingface.co/{DEMO}", "demo", "Demo:latest", "hf.co/demo",
)  # fmt: skip
MINILM_SPELLINGS = (MINILM, MINILM.upper(), f"{MINILM}:main", f"hf.co/{MINILM}:latest", f"https://hf.co/{MINILM}")
HI = [{"role": "user", "content": "Hi"}]
# every place where a body names a model that a key may not use, and what else the body must have
BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("/api/generate", "model", {"prompt": "x", "stream": False}),
    ("/api/generate", "model", {"keep_alive": 0}),
    ("/api/chat", "model", {"messages": HI, "stream": False}),
    ("/api/embed", "model", {"input": "x"}),
    ("/api/embeddings", "model", {"prompt": "x"}),
    ("/api/rerank", "model", {"query": "q", "documents": ["d"]}),
    ("/api/tokenize", "model", {"content": "x"}),
    ("/api/detokenize", "model", {"tokens": [5]}),
    ("/api/show", "model", {}),
    ("/api/show", "name", {}),
    ("/api/show", "model", {"remote": True}),
    ("/api/pull", "model", {"stream": False}),
    ("/api/pull", "name", {"stream": False}),
    ("/api/push", "model", {"stream": False}),
    ("/api/create", "from", {"model": "hugging-llama/mine", "stream": False}),
    ("/api/create", "model", {"from": DEMO, "stream": False}),
    ("/api/create", "adapters", {"model": "hugging-llama/mine", "from": DEMO, "stream": False}),
    ("/api/copy", "source", {"destination": "hugging-llama/mine"}),
    ("/api/copy", "destination", {"source": DEMO}),
    ("/api/delete", "model", {}),
    ("/v1/chat/completions", "model", {"messages": HI}),
    ("/v1/completions", "model", {"prompt": "x"}),
    ("/v1/completions", "model", {"prompt": ""}),
    ("/v1/embeddings", "model", {"input": "x"}),
    ("/v1/responses", "model", {"input": "x"}),
    ("/v1/messages", "model", {"messages": HI, "max_tokens": 9}),
    ("/v1/messages/count_tokens", "model", {"messages": HI}),
    ("/v1/rerank", "model", {"query": "q", "documents": ["d"]}),
    ("/v2/rerank", "model", {"query": "q", "documents": ["d"]}),
    ("/v1/classify", "model", {"input": "x"}),
]


def make_key(keys: Path, *models: str) -> dict[str, str]:
    key, secret = new_key(f"k-{os.urandom(4).hex()}", roles=("use", "manage"), models=models)
    add_key(str(keys), key)
    return {"x-api-key": secret}


def test_every_route_that_names_a_model_is_here(make_client: MakeClient) -> None:
    app = make_client()[0].application
    naming = set()
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        if operation is not None and operation.request is not None:
            data_keys = {field.data_key or name for name, field in operation.request.fields.items()}
            if data_keys & {"model", "name", "source"}:
                naming.add(rule.rule)
    assert naming == {path for path, _, _ in BODIES}


@pytest.mark.parametrize(("path", "field", "body"), BODIES)
def test_no_spelling_gets_around_a_pattern(
    make_client: MakeClient, tmp_path: Path, path: str, field: str, body: dict[str, Any]
) -> None:
    keys = tmp_path / "keys.json"
    headers = make_key(keys, "hugging-llama/*")
    client, engine = make_client(keys_file=str(keys), hub_endpoint="http://127.0.0.1:9")
    for name in MINILM_SPELLINGS:
        method = client.delete if path == "/api/delete" else client.post
        response = method(path, json={**body, field: name}, headers=headers)
        assert response.status_code == 403, name
    assert engine.requests == []


@pytest.mark.parametrize(
    "pattern", [DEMO, "HF.co/Hugging-Llama/DEMO:main", "hugging-llama/*", "hf.co/hugging-llama/d?mo", "demo"]
)
def test_every_spelling_of_what_a_pattern_covers_is_served(
    make_client: MakeClient, tmp_path: Path, pattern: str
) -> None:
    keys = tmp_path / "keys.json"
    headers = make_key(keys, pattern, "hugging-llama/mine")
    client, _ = make_client(keys_file=str(keys), loaded=[LOADED], hub_endpoint="http://127.0.0.1:9")
    for name in DEMO_SPELLINGS if pattern == DEMO else DEMO_SPELLINGS[::4]:
        for path, body in (
            ("/api/chat", {"messages": HI, "stream": False}), ("/api/show", {}), ("/api/tokenize", {"content": "x"}),
            ("/v1/chat/completions", {"messages": HI}), ("/v1/messages", {"messages": HI, "max_tokens": 9}),
            ("/v1/responses", {"input": "x"}),
        ):  # fmt: skip
            assert client.post(path, json={"model": name, **body}, headers=headers).status_code == 200, (path, name)
        copy = {"source": name, "destination": "hugging-llama/mine"}
        assert client.post("/api/copy", json=copy, headers=headers).status_code == 200, name
        create = {"model": "hugging-llama/mine", "from": name, "stream": False}
        assert client.post("/api/create", json=create, headers=headers).status_code == 200, name
        assert client.get(f"/v1/models/{name}", headers=headers).status_code in (200, 404), name
        for path in ("/api/pull", "/api/push"):  # refused for other reasons
            assert client.post(path, json={"model": name}, headers=headers).status_code != 403, (path, name)
        assert client.delete("/api/delete", json={"model": name}, headers=headers).status_code == 400, name
    for path, key in (("/api/tags", "models"), ("/api/ps", "models"), ("/v1/models", "data")):
        listed = client.get(path, headers=headers).get_json()[key]
        assert f"{DEMO}:latest" in {model.get("name", model.get("id")) for model in listed}
        assert not any(MINILM in str(model) for model in listed)


def may_use(client: FlaskClient, headers: dict[str, str], name: str) -> bool:
    status = client.post("/api/show", json={"model": name}, headers=headers).status_code
    assert status in (200, 403)
    assert client.get(f"/v1/models/{name}", headers=headers).status_code in ((200,) if status == 200 else (403, 404))
    return status == 200


@pytest.mark.parametrize("pattern", ["demo", "Demo:latest", "hf.co/demo:main", "demo*", "demo:*", "d?mo"])
def test_the_short_name_of_the_demo_model_is_a_name_of_it(
    make_client: MakeClient, tmp_path: Path, pattern: str
) -> None:
    keys = tmp_path / "keys.json"
    headers = make_key(keys, pattern)
    client, _ = make_client(keys_file=str(keys), loaded=[LOADED])
    assert all(may_use(client, headers, name) for name in DEMO_SPELLINGS)
    assert not may_use(client, headers, MINILM)
    for path in ("/api/tags", "/api/ps"):
        listed = client.get(path, headers=headers).get_json()["models"]
        assert [model["name"] for model in listed] == [f"{DEMO}:latest"]
    # for what is to be made, a name is only itself
    for destination, status in (("mine", 403), (DEMO, 403), ("demo", 400)):
        body = {"source": "demo", "destination": destination}
        assert client.post("/api/copy", json=body, headers=headers).status_code == status, destination


def test_what_has_the_short_name_is_what_a_pattern_of_it_means(make_client: MakeClient, tmp_path: Path) -> None:
    """None of our routes makes such a model; files of another program, or of an earlier version, may be one."""
    keys = tmp_path / "keys.json"
    short, long = make_key(keys, "demo"), make_key(keys, DEMO)
    client, _ = make_client(keys_file=str(keys))
    store = client.application.extensions["hugging_llama"].store
    store.named.write(Manifest(name="demo:latest", source=Source(base=MINILM)))
    assert [may_use(client, short, name) for name in ("Demo", DEMO)] == [True, False]
    assert [may_use(client, long, name) for name in ("Demo", DEMO)] == [False, True]
    # nor does the short one mean what somebody has put in the place of the demo model
    store.named.write(Manifest(name=f"{DEMO}:latest", source=Source(base=MINILM)))
    assert [may_use(client, short, name) for name in ("Demo", DEMO)] == [True, False]
    assert [may_use(client, long, name) for name in ("Demo", DEMO)] == [False, True]


def test_another_name_of_a_model_is_no_way_around(make_client: MakeClient, tmp_path: Path) -> None:
    """A copy is a model of its own: who may use it may not use what it was made from, nor the other way round."""
    keys = tmp_path / "keys.json"
    headers = make_key(keys, "mine")
    client, _ = make_client(keys_file=str(keys))
    client.application.extensions["hugging_llama"].store.named.write(
        Manifest(name="mine:latest", source=Source(base=DEMO))
    )
    for path, body in (
        ("/api/copy", {"source": "demo", "destination": "mine"}),
        ("/api/create", {"from": "demo", "model": "mine", "stream": False}),
        ("/api/chat", {"model": "demo", "messages": HI}),
    ):
        assert client.post(path, json=body, headers=headers).status_code == 403
    assert may_use(client, headers, "mine")
    assert not may_use(client, make_key(keys, "demo"), "mine")


parts = st.from_regex(r"[A-Za-z0-9_]([.-]?[A-Za-z0-9_]){0,4}", fullmatch=True).filter(str.isascii)
repos = st.one_of(parts, st.builds("{}/{}".format, parts, parts))
# the revisions that mean the same as none, and others
DEFAULT_TAGS = ("", ":latest", ":LATEST", ":main", ":Main")
tags = st.one_of(st.just(""), st.builds(":{}".format, parts), st.just(":" + "a1" * 20))
prefixes = st.sampled_from(["", "hf.co/", "HF.CO/", "huggingface.co/", "https://hf.co/", "http://HuggingFace.co/"])


@st.composite
def spellings(draw: st.DrawFn, name: tuple[str, str]) -> str:
    repo, tag = name
    if tag in DEFAULT_TAGS:
        tag = draw(st.sampled_from(DEFAULT_TAGS))
    text = repo + tag
    flips = draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    cased = "".join(letter.swapcase() if flip else letter for letter, flip in zip(text, flips, strict=True))
    return draw(prefixes) + cased + draw(st.sampled_from(["", ":local", ":LOCAL"]))


def is_name(text: str) -> bool:
    try:
        return full_name(text).partition(":")[0] == text.partition(":")[0]
    except (InvalidRequestError, CloudModelError):
        return False


def meaning(name: tuple[str, str]) -> tuple[str, str]:
    repo, tag = name
    return repo.lower(), "" if tag in DEFAULT_TAGS else tag.lower()


names = st.tuples(repos, tags).filter(lambda name: is_name("".join(name)))


@given(st.data(), names, names, st.booleans())
def test_a_pattern_covers_what_means_the_same_and_nothing_else(
    data: st.DataObject, mine: tuple[str, str], other: tuple[str, str], asks_for_mine: bool
) -> None:
    wanted = mine if asks_for_mine else other
    pattern, asked = data.draw(spellings(mine)), full_name(data.draw(spellings(wanted)))
    assert covers((pattern,), asked) == (meaning(mine) == meaning(wanted))
    assert covers(("nobody/else*", pattern), asked) == (meaning(mine) == meaning(wanted))


@given(st.data(), parts, names)
def test_a_pattern_of_an_organisation_covers_its_models_alone(
    data: st.DataObject, organisation: str, name: tuple[str, str]
) -> None:
    asked = full_name(data.draw(spellings(name)))
    pattern = data.draw(prefixes) + data.draw(st.sampled_from([organisation, organisation.upper()])) + "/*"
    assert covers((pattern,), asked) == name[0].lower().startswith(organisation.lower() + "/")


@given(st.data(), names)
def test_no_pattern_that_covers_a_name_is_refused_by_the_command_line(
    data: st.DataObject, name: tuple[str, str]
) -> None:
    """A letter of it, or a piece, may be a wildcard."""
    spelling = data.draw(spellings(name))
    assert pattern_fault(spelling) == ""
    start = data.draw(st.integers(0, len(spelling)))
    end = data.draw(st.integers(start, len(spelling)))
    wildcard = data.draw(st.sampled_from(["*", "?", "[!]x]", "**"]))
    pattern = spelling[:start] + wildcard + spelling[end:]
    if covers((pattern,), full_name("".join(name))):
        assert pattern_fault(pattern) == "", pattern


@given(st.text("aZ0_-./:+*?[] ,\n", max_size=12))
def test_what_can_be_no_name_is_refused_by_the_command_line(text: str) -> None:
    if not set(text) & set("*?[") and not text.startswith("/"):
        try:
            can_be_one = bool(full_name(text))
        except (InvalidRequestError, CloudModelError):
            can_be_one = text.endswith(":") and is_name(text[:-1])  # as good as with no tag
        assert (pattern_fault(text) == "") == can_be_one


@pytest.mark.parametrize(
    ("pattern", "name", "is_covered"),
    [
        ("*", "/models/a", True), ("/models/*", "/models/a:latest", True), ("/models/a", "/models/a:latest", True),
        ("/models/a", "/models/A", False), ("/models/a", "/models/a/b", False), ("models/a", "/models/a", False),
        ("org/name", "org/name:v2", False), ("org/name:*", "org/name:latest", True),
        ("org/name:v?", "org/name:V2", True),
        ("name", "org/name:latest", False), ("org", "org/name:latest", False), ("", "org/name:latest", False),
        ("org/name-[ab]", "org/name-a:latest", True), ("https://hf.co/org/*:main", "org/name:latest", True),
    ],
)  # fmt: skip
def test_paths_revisions_and_patterns(pattern: str, name: str, is_covered: bool) -> None:
    assert covers((pattern,), name) == is_covered
