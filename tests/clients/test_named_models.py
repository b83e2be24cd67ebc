"""Named models made, used and deleted by Ollama's official client and our own, against a real server."""

import json
import subprocess
import sys
from collections.abc import Iterator

import ollama
import pytest

from tests.hub_cache import MINILM
from tests.live_server import LiveServer

DEMO = "hugging-llama/demo"
QUESTION = "What is the capital of France?"
GREEDY = {"temperature": 0}


@pytest.fixture
def client(server: LiveServer) -> Iterator[ollama.Client]:
    """With every model of our making deleted at the end."""
    with ollama.Client(host=server.url) as client:
        yield client
        for model in client.list().models:
            if model.details and model.details.parent_model:
                client.delete(str(model.model))


def _quantization_levels(client: ollama.Client) -> dict[str | None, str | None]:
    """Of the demo model's copies in memory; other tests of this server have other models there."""
    rows = [model for model in client.ps().models if model.model != f"{MINILM}:latest"]
    return {model.model: model.details.quantization_level for model in rows if model.details}


def test_an_int8_model_answers_beside_its_exact_base(client: ollama.Client) -> None:
    assert client.create("mine", from_="demo", quantize="q8_0", parameters={"temperature": 0}).status == "success"
    listed = {model.model: model for model in client.list().models}
    assert listed["mine:latest"].details
    assert listed["mine:latest"].details.quantization_level == "INT8"
    assert listed["mine:latest"].details.parent_model == f"{DEMO}:latest"
    assert listed["mine:latest"].digest != listed[f"{DEMO}:latest"].digest

    exact = client.generate(DEMO, QUESTION, think=False, options=GREEDY, logprobs=True, top_logprobs=1)
    small = client.generate("mine", QUESTION, think=False, logprobs=True, top_logprobs=1)
    assert "Paris" in (exact.response or "")
    assert "Paris" in (small.response or "")
    assert exact.logprobs
    assert small.logprobs
    assert small.logprobs[0].logprob != exact.logprobs[0].logprob, "other weights"
    assert abs(small.logprobs[0].logprob - exact.logprobs[0].logprob) < 0.5, "but not by much"
    assert _quantization_levels(client) == {f"{DEMO}:latest": "BF16", "mine:latest": "INT8"}, "two copies"

    shown = client.show("mine")
    assert shown.details
    assert (shown.details.quantization_level, shown.details.parent_model) == ("INT8", f"{DEMO}:latest")
    assert f"FROM {DEMO}:latest" in (shown.modelfile or "")
    assert shown.parameters

    assert client.delete("mine").status == "success"
    again = client.generate(DEMO, QUESTION, think=False, options=GREEDY, logprobs=True, top_logprobs=1)
    assert again.load_duration is not None
    assert again.response == exact.response
    assert _quantization_levels(client) == {f"{DEMO}:latest": "BF16"}
    with pytest.raises(ollama.ResponseError, match="model 'mine' not found"):
        client.generate("mine", QUESTION)


def test_create_streams_and_the_system_text_is_used(client: ollama.Client) -> None:
    parts = [part.status for part in client.create("acme/mine:v1", from_=DEMO, system="Be brief.", stream=True)]
    assert parts[-2:] == ["writing manifest", "success"]
    plain = client.generate(DEMO, QUESTION, think=False, options=GREEDY)
    named = client.generate("ACME/mine:V1", QUESTION, think=False, options=GREEDY)
    asked = client.generate(DEMO, QUESTION, think=False, options=GREEDY, system="Be brief.")
    assert named.prompt_eval_count == asked.prompt_eval_count != plain.prompt_eval_count
    assert named.response == asked.response


def test_an_embedding_model_can_be_quantised(client: ollama.Client) -> None:
    client.create("mini", from_=MINILM, quantize="int8")
    exact, small = (client.embed(name, "a cat on a mat").embeddings[0] for name in (MINILM, "mini"))
    cosine = sum(a * b for a, b in zip(exact, small, strict=True))
    assert cosine > 0.98
    assert list(exact) != list(small)


def test_create_refuses_what_it_can_not_do(client: ollama.Client) -> None:
    for kwargs, text in (
        ({"from_": "acme/nothing"}, "can't reach 127.0.0.1"),
        ({"from_": DEMO, "quantize": "q5_0"}, "supported types are int8"),
        ({"from_": DEMO, "messages": [{"role": "tool", "content": "x"}]}, "message role must be one of"),
    ):
        with pytest.raises(ollama.ResponseError, match=text):
            client.create("mine", **kwargs)
    with pytest.raises(ollama.ResponseError, match="comes with the server"):
        client.delete(DEMO)


def test_copies_are_made_used_and_deleted(client: ollama.Client) -> None:
    client.create("mine", from_=DEMO, system="Be brief.", parameters={"temperature": 0})
    assert client.copy("mine", "acme/copy:v1").status == "success"
    first, second = (client.generate(name, QUESTION, think=False) for name in ("mine", "acme/copy:v1"))
    assert (second.response, second.prompt_eval_count) == (first.response, first.prompt_eval_count)
    assert "acme/copy:v1" in {row.model for row in client.ps().models}, "the name that was used last"
    listed = {model.model: model.digest for model in client.list().models}
    assert listed["acme/copy:v1"] == listed["mine:latest"]
    assert client.delete("acme/copy:v1").status == "success"
    with pytest.raises(ollama.ResponseError, match='model "acme/copy:v1" not found') as caught:
        client.copy("acme/copy:v1", "again")
    assert caught.value.status_code == 404
    assert client.generate("mine", QUESTION, think=False).response == first.response


def _cli(server: LiveServer, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hugging_llama_cli", *argv]
    return subprocess.run(command, env=dict(server.environ), capture_output=True, text=True, timeout=120, check=False)


def test_the_command_line_makes_shows_and_deletes(server: LiveServer, client: ollama.Client) -> None:
    made = _cli(
        server, "create", "mine:int4", "--from", "demo", "-q", "int4", "--parameter", "temperature=0",
        "--parameter", "stop=xyz", "--parameter", "num_ctx=512",
    )  # fmt: skip
    assert (made.returncode, made.stdout) == (0, "created 'mine:int4'\n")
    assert made.stderr.splitlines()[-1] == "success"
    shown = json.loads(_cli(server, "show", "mine:int4", "--json").stdout)
    assert shown["details"]["quantization_level"] == "INT4"
    assert shown["memory"]["num_ctx"] == 512
    assert 'stop                           "xyz"' in shown["parameters"]
    answer = _cli(server, "run", "mine:int4", QUESTION)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip()
    gone = _cli(server, "rm", "mine:int4", "mine:int4")
    assert (gone.returncode, gone.stdout.count("\n")) == (1, 1)
    assert gone.stdout.startswith("deleted 'mine:int4'")
    assert gone.stderr == "Error: model 'mine:int4' not found\n"
