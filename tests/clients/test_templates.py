"""Templates and gaps on a real server: a request's own, a named model's, and the tokens of a model for code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from hugging_llama.dialects.ollama.go_template import to_jinja
from hugging_llama.store.local import Store
from hugging_llama.store.manifests import Manifest, Source
from hugging_llama_config.settings import Settings
from tests.live_server import LiveServer

DEMO = "hugging-llama/demo"
BARE = "User says: {{ .Prompt }}\nAnswer:"
OPTIONS = {"temperature": 0, "num_predict": 12}


@pytest.fixture
def client(server: LiveServer) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url) as client:
        yield client


def _said(client: ollama.Client, model: str, prompt: str, **options: Any) -> str:
    return str(client.generate(model, prompt, think=False, options=OPTIONS, **options).response)


def test_a_template_in_the_request_is_honoured(client: ollama.Client) -> None:
    raw = _said(client, DEMO, "User says: Hi\nAnswer:", raw=True)
    assert _said(client, DEMO, "Hi", template=BARE) == raw
    jinja = "User says: {% for m in messages %}{{ m.content }}{% endfor %}{{ '\\n' }}Answer:"
    assert _said(client, DEMO, "Hi", template=jinja) == raw
    assert _said(client, DEMO, "Hi") != raw
    for template, error in (("{{ .Prompt }", "template error: line 1: "), ("{{ 1 + 'a' }}", "this template can't")):
        with pytest.raises(ollama.ResponseError, match=error) as caught:
            _said(client, DEMO, "Hi", template=template)
        assert caught.value.status_code == 400


def test_a_named_model_speaks_by_its_own_template(client: ollama.Client, server: LiveServer) -> None:
    store = Store(Settings(home=str(Path(server.environ["HOME"]) / ".cache" / "hugging-llama")))
    store.named.write(Manifest(name="bare", source=Source(base=DEMO), template=to_jinja(BARE)))
    try:
        raw = _said(client, DEMO, "User says: Hi\nAnswer:", raw=True)
        assert _said(client, "bare", "Hi") == raw
        chat = client.chat("bare", [{"role": "user", "content": "Hi"}], options=OPTIONS)
        assert chat.message.content == raw
        assert client.show("bare").capabilities == ["completion"]
        with pytest.raises(ollama.ResponseError, match='"bare" does not support thinking'):
            client.generate("bare", "Hi", think=True)
        assert _said(client, "bare", "Hi", template="{{ .Prompt }}!") == _said(client, DEMO, "Hi!", raw=True)
    finally:
        client.delete("bare")


def test_a_model_for_code_fills_a_gap(client: ollama.Client, coder: str) -> None:
    assert "insert" in (client.show(coder).capabilities or [])
    raw = _said(client, coder, "<fim_prefix>def f(<fim_suffix>return 1<fim_middle>", raw=True)
    assert _said(client, coder, "def f(", suffix="return 1", system="no part of it") == raw != ""
    with pytest.raises(ollama.ResponseError, match=f"^{DEMO}:latest does not support insert"):
        _said(client, DEMO, "def f(", suffix="return 1")
