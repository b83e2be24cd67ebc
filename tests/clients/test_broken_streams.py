"""An engine that dies in the middle of an answer, as the official clients see it: an error, not an end."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
import requests

from tests.clients.javascript import command, needs
from tests.live_server import LiveServer, live_server
from tests.process.servers import wait_until

DEMO = "hugging-llama/demo"
FRANCE: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def breaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of its own, with a model whose answers do not end by themselves."""
    folder: Path = tmp_path_factory.mktemp("breaking")
    with live_server(folder, folder / "hub", hub_endpoint="http://127.0.0.1:9") as server:
        made = {"model": "endless", "from": "demo", "parameters": {"min_new_tokens": 100000, "num_predict": 100000}}
        assert requests.post(f"{server.url}/api/create", json={**made, "stream": False}, timeout=60).ok
        yield server


def works_again(server: LiveServer) -> bool:
    """The next request starts with the engine that has taken over."""
    answer = requests.post(
        f"{server.url}/api/generate", json={"model": DEMO, "prompt": "Hi", "stream": False}, timeout=60
    )
    return answer.ok and bool(answer.json()["response"])


def test_in_python(breaking: LiveServer) -> None:
    with (
        ollama.Client(host=breaking.url) as native,
        openai.OpenAI(base_url=breaking.url + "/v1", api_key="none", max_retries=0) as second,
        anthropic.Anthropic(base_url=breaking.url, api_key="none", max_retries=0) as third,
    ):
        chat = native.chat("endless", FRANCE, stream=True)
        chunks = second.chat.completions.create(model="endless", messages=FRANCE, stream=True)
        texts = second.completions.create(model="endless", prompt="France", max_tokens=100000, stream=True)
        items = second.responses.create(model="endless", input="France", stream=True)
        events = third.messages.create(model="endless", max_tokens=100000, messages=FRANCE, stream=True)
        assert next(chat).message
        assert next(chunks).choices
        assert next(texts).choices
        assert next(iter(items)).type == "response.created"
        assert next(events).type == "message_start"
        os.kill(breaking.engine().pid, signal.SIGKILL)
        with pytest.raises(ollama.ResponseError, match="engine"):
            list(chat)
        with pytest.raises(openai.APIError, match="engine"):
            list(chunks)
        with pytest.raises(openai.APIError, match="engine"):
            list(texts)
        *_, failed = items
        assert failed.type == "response.failed"
        assert failed.response.error
        assert "engine" in failed.response.error.message
        with pytest.raises(anthropic.APIStatusError, match="engine"):
            list(events)
    wait_until(lambda: works_again(breaking))  # a request that the old engine had taken while it died fails


@needs("ollama")
@needs("openai")
@needs("@anthropic-ai/sdk")
def test_in_javascript(breaking: LiveServer) -> None:
    names = {"ollama": "Error", "openai": "APIError", "anthropic": "APIError"}
    talking = {
        client: subprocess.Popen(
            command("broken.js", client, breaking.url, "endless"), stdout=subprocess.PIPE, text=True
        )
        for client in names
    }  # fmt: skip
    try:
        for process in talking.values():
            assert process.stdout
            assert process.stdout.readline() == "begun\n"
        os.kill(breaking.engine().pid, signal.SIGKILL)
        for client, process in talking.items():
            found = json.loads(process.communicate(timeout=60)[0])
            assert found["name"] == names[client]
            assert "engine" in found["message"]
    finally:
        for process in talking.values():
            process.kill()
            process.communicate()
    wait_until(lambda: works_again(breaking))  # a request that the old engine had taken while it died fails
