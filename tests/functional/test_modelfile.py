"""The Modelfile that /api/show writes makes the same model again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.dialects.ollama.modelfile import Modelfile
from hugging_llama.neutral.messages import Message
from hugging_llama.store.local import Store
from hugging_llama.store.manifests import Manifest, Source, StoredMessage
from hugging_llama_cli.commands.create import described
from hugging_llama_cli.modelfile import parse_modelfile
from tests.functional.conftest import MakeClient
from tests.hub_cache import add_to_hub_cache, minilm_files
from tests.store.models import low_rank

DEMO = "hugging-llama/demo:latest"
PARAMETERS = {
    "temperature": 0.25, "top_k": 7, "num_ctx": 512, "num_predict": -1, "seed": 5,
    "stop": ['"END"', ".", " x ", "a\nb"],
    "logit_bias": {"5": 1.0, "a b": -1.0}, "bad_words": ["x", "y"], "bad_words_ids": [[7, 8], [9]],
    "suppress_tokens": [1, 2], "repeat_penalty": 1.5,
}  # fmt: skip
TEXT = st.text(alphabet=' "\nab#', max_size=12) | st.text(
    alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r")
)


def read_modelfile(text: str) -> dict[str, Any]:
    """The body of /api/create that our command line sends for a Modelfile of names."""
    parsed = parse_modelfile(text)
    adapter = {"adapters": parsed.adapter.value} if parsed.adapter else {}
    body = {"from": parsed.base.value, **adapter, **described(parsed)}
    return {key: value for key, value in body.items() if value}


def _store(client: FlaskClient) -> Store:
    store: Store = client.application.extensions["hugging_llama"].store
    return store


def _show(client: FlaskClient, name: str) -> Any:
    return client.post("/api/show", json={"model": name}).get_json()


@pytest.mark.parametrize(
    "text", ["Be brief.", 'Say "hi"', '"quoted"', "two\nlines", ' edges "and\nlines" ', "# no comment"]
)
def test_a_model_made_from_the_modelfile_answers_the_same(make_client: MakeClient, text: str) -> None:
    client, engine = make_client()
    body = {"model": "mine", "from": "demo", "system": text, "parameters": PARAMETERS, "stream": False}
    assert client.post("/api/create", json=body).get_json() == {"status": "success"}
    again = read_modelfile(_show(client, "mine")["modelfile"])
    assert again["from"] == DEMO
    made = client.post("/api/create", json={"model": "again", "stream": False, **again})
    assert made.get_json() == {"status": "success"}
    for name in ("mine", "again"):
        client.post("/api/generate", json={"model": name, "prompt": "x"}).get_data()
    first, second = engine.requests[-2:]
    assert replace(second, model=first.model) == first
    assert _store(client).resolve("again").ref.digest == first.model.digest


def test_all_that_a_named_model_has_is_in_it(make_client: MakeClient, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    add_to_hub_cache(cache, "acme/mini", minilm_files())
    (tmp_path / "lora").mkdir()
    for path, content in low_rank().items():
        (tmp_path / "lora" / path).write_bytes(content)
    add_to_hub_cache(cache, "acme/lora", tmp_path / "lora")
    client, _ = make_client(hub_cache=str(cache))
    store = _store(client)
    manifest = Manifest(
        name="mine:latest",
        source=Source(base=DEMO),
        adapter=Source(base="acme/lora:latest"),
        system="S",
        template="{{ messages }}\n",
        messages=(StoredMessage(role="user", content='"Hi"'), StoredMessage(role="assistant", content="a\nb")),
        licenses=("MIT", "and\nmore"),
    )
    store.named.write(manifest)
    shown = _show(client, "mine")
    again = read_modelfile(shown["modelfile"])
    assert again == {
        "from": DEMO,
        "adapters": "acme/lora:latest",
        "system": "S",
        "template": "{{ messages }}\n",
        "license": ["MIT", "and\nmore"],
        "messages": [{"role": "user", "content": '"Hi"'}, {"role": "assistant", "content": "a\nb"}],
    }
    assert shown["template"] == "{{ messages }}\n"
    assert shown["messages"] == again["messages"]
    assert shown["license"] == "apache-2.0\nMIT\nand\nmore"
    assert shown["capabilities"] == ["completion"], "the template has no place for tools"
    listed = {model["name"]: model for model in client.get("/api/tags").get_json()["models"]}
    assert listed["mine:latest"]["size"] == listed[DEMO]["size"] + sum(
        path.stat().st_size for path in (tmp_path / "lora").iterdir()
    )


def test_a_base_that_has_moved_is_named_by_its_commit(make_client: MakeClient, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    commit = add_to_hub_cache(cache, "acme/mini", minilm_files()).name
    client, _ = make_client(hub_cache=str(cache))
    client.post("/api/copy", json={"source": "acme/mini", "destination": "mine"})
    assert read_modelfile(_show(client, "mine")["modelfile"])["from"] == "acme/mini:latest"
    (cache / "models--acme--mini" / "refs" / "main").write_text("f" * 40)
    again = read_modelfile(_show(client, "mine")["modelfile"])
    assert again["from"] == f"acme/mini:{commit}"
    client.post("/api/copy", json={"source": again["from"], "destination": "again"})
    assert _store(client).resolve("again").ref.path == _store(client).resolve("mine").ref.path


@given(texts=st.lists(TEXT.filter(lambda text: '"""' not in text and bool(text)), min_size=4, max_size=4))
def test_every_text_is_read_back(texts: list[str]) -> None:
    system, template, license, content = texts
    text = Modelfile(
        base=DEMO,
        system=system,
        template=template,
        licenses=[license],
        messages=[Message(role="user", content=content)],
        parameters={"stop": [system, content]},
    ).text()
    assert read_modelfile(text) == {
        "from": DEMO,
        "system": system,
        "template": template,
        "license": [license],
        "messages": [{"role": "user", "content": content}],
        "parameters": {"stop": [system, content]},
    }
