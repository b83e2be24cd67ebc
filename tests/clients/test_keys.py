"""A real server with keys: every official client gets in with its own header, and nobody without."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anthropic
import ollama
import openai
import pytest
import requests

from hugging_llama_config.keys import add_key, new_key, revoke_key
from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files
from tests.live_server import LiveServer, free_port, live_server

DEMO = "hugging-llama/demo"
HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def secret(keys: str) -> str:
    key, secret = new_key("clients", roles=("use",))
    add_key(keys, key)
    return secret


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory, keys: str, secret: str) -> Iterator[LiveServer]:
    folder: Path = tmp_path_factory.mktemp("closed")
    add_to_hub_cache(folder / "hub", MINILM, minilm_files())
    with live_server(folder, folder / "hub", hub_endpoint="http://127.0.0.1:9", keys_file=keys) as running:
        yield running


def test_ollamas_client(closed_server: LiveServer, secret: str) -> None:
    with ollama.Client(host=closed_server.url) as client, pytest.raises(ollama.ResponseError) as refused:
        client.chat(DEMO, HI)
    assert refused.value.status_code == 401
    with ollama.Client(host=closed_server.url, headers={"Authorization": f"Bearer {secret}"}) as client:
        assert client.chat(DEMO, HI, options={"num_predict": 2}).done
        with pytest.raises(ollama.ResponseError, match="no role 'manage'"):
            client.delete("mine")


def test_openais_client(closed_server: LiveServer, secret: str) -> None:
    url = closed_server.url + "/v1"
    with (
        openai.OpenAI(base_url=url, api_key="sk-none", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(model=DEMO, messages=HI)  # type: ignore[arg-type]
    with openai.OpenAI(base_url=url, api_key=secret, max_retries=0) as client:
        assert client.models.list().data
        assert client.embeddings.create(model=MINILM, input="x").data


def test_anthropics_client(closed_server: LiveServer, secret: str) -> None:
    with (
        anthropic.Anthropic(base_url=closed_server.url, api_key="none", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        client.messages.create(model=DEMO, max_tokens=2, messages=HI)  # type: ignore[arg-type]
    with anthropic.Anthropic(base_url=closed_server.url, api_key=secret, max_retries=0) as client:
        assert client.messages.create(model=DEMO, max_tokens=2, messages=HI).usage.output_tokens == 2  # type: ignore[arg-type]


def test_the_command_line(closed_server: LiveServer, secret: str) -> None:
    def listed(**key: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hugging_llama_cli", "list"]
        environ = {**closed_server.environ, **key}
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert DEMO in listed(HUGGING_LLAMA_API_KEY=secret).stdout
    refused = listed()
    assert (refused.returncode, "a valid API key is needed; set HUGGING_LLAMA_API_KEY" in refused.stderr) == (1, True)


def test_a_new_key_is_known_to_all_workers_and_a_revoked_one_to_none(closed_server: LiveServer, keys: str) -> None:
    key, secret = new_key("short", roles=("use",))

    def statuses() -> set[int]:
        found = set()
        for _ in range(12):  # each a connection of its own, so that both workers are asked
            answer = requests.get(
                f"{closed_server.url}/api/tags", headers={"x-api-key": secret, "Connection": "close"}, timeout=60
            )
            found.add(answer.status_code)
        return found

    assert statuses() == {401}
    add_key(keys, key)
    assert statuses() == {200}
    revoke_key(keys, "short")
    assert statuses() == {401}


def test_no_log_has_the_secret(closed_server: LiveServer, secret: str) -> None:
    requests.get(f"{closed_server.url}/api/tags", headers={"x-api-key": secret}, timeout=60)
    requests.get(f"{closed_server.url}/api/tags", headers={"Authorization": f"Bearer {secret}x"}, timeout=60)
    assert secret not in closed_server.log.read_text()


def test_gunicorn_refuses_to_be_open_to_others(closed_server: LiveServer) -> None:
    def start(*more: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gunicorn", "-c", "python:hugging_llama_config.gunicorn", *more]
        return subprocess.run(
            [*command, "hugging_llama:create_app()"],
            env={**closed_server.environ, "HUGGING_LLAMA_KEYS_FILE": "", **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    refused = start("-b", f"0.0.0.0:{free_port()}")
    assert refused.returncode != 0
    assert "0.0.0.0 can be reached by others, and there are no keys" in refused.stderr
    assert "Traceback" not in refused.stderr
