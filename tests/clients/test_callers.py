"""Two callers at one real server: gunicorn, two workers, the engine behind them with a single place."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
import requests

from tests.live_server import LiveServer, live_server
from tests.process.servers import wait_until

APP = "tests.clients.callers_app:app"
COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:hugging_llama_config.gunicorn"]
ROOT = Path(__file__).parents[2]
HI: Any = [{"role": "user", "content": "Hi"}]
LONG = {"num_predict": 100_000, "min_new_tokens": 100_000, "temperature": 0}


@pytest.fixture(scope="module")
def one_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder: Path = tmp_path_factory.mktemp("callers")
    command = [*COMMAND, "--pythonpath", str(ROOT), APP]
    with live_server(folder, folder / "hub", command, hub_endpoint="http://127.0.0.1:9", max_num_seqs="1") as running:
        with closing(Asked(running, "bulk", options={"num_predict": 50}).begun()) as before:
            assert before.content, "it is read to its end, which shows the pace"
        yield running


class Asked:
    """A stream that nobody reads to its end; its head comes when it has its place."""

    def __init__(self, server: LiveServer, caller: str, **body: Any) -> None:
        self._server = server
        self._answer: requests.Response | None = None
        self._json = {"model": "demo", "prompt": "Count: one, two", "raw": True, "options": LONG, **body}
        self._thread = threading.Thread(target=self._ask, args=(caller,), daemon=True)
        self._thread.start()

    def _ask(self, caller: str) -> None:
        url, headers = f"{self._server.url}/api/generate", {"X-Test-Caller": caller}
        self._answer = requests.post(url, json=self._json, headers=headers, stream=True, timeout=120)

    @property
    def is_answered(self) -> bool:
        return self._answer is not None

    def begun(self) -> requests.Response:
        self._thread.join(120)
        assert self._answer is not None, "no answer began"
        return self._answer


def wait_for_queue(server: LiveServer, num_waiting: int) -> None:
    wait_until(lambda: server.figure("waiting") == num_waiting, 60)


def test_the_next_place_is_the_other_callers(one_place: LiveServer) -> None:
    with closing(Asked(one_place, "bulk").begun()) as running:
        assert "X-Queue-Position" not in running.headers
        bulk = []
        for number in range(4):
            bulk.append(Asked(one_place, "bulk"))
            wait_for_queue(one_place, number + 1)
        other = Asked(one_place, "other")
        wait_for_queue(one_place, 5)
    with closing(other.begun()) as answer:
        assert answer.headers["X-Queue-Position"] == "1"
        assert float(answer.headers["X-Queue-Wait"]) > 0
        assert float(answer.headers["X-Queue-Expected-Wait"]) > 0
        assert not any(asked.is_answered for asked in bulk)
        assert one_place.told("waiting") == 4
    for number, asked in enumerate(bulk, 1):
        with closing(asked.begun()) as answer:
            # told at the next step, before which the other may have come on a busy machine
            assert answer.headers["X-Queue-Position"] in (str(number), str(number + 1))
    wait_until(lambda: one_place.figure("running") == 0, 60)


def test_progress_tells_place_and_prompt(one_place: LiveServer) -> None:
    running = Asked(one_place, "bulk").begun()
    with closing(running):
        prompt = "one two three four " * 200
        waiting = Asked(one_place, "other", progress=True, prompt=prompt, options={"num_predict": 3, "num_ctx": 2048})
        answer = waiting.begun()  # it begins with its place in the queue, long before the first token
        lines = answer.iter_lines()
        first = json.loads(next(lines))
        told = first["progress"]
        assert (told["phase"], told["position"]) == ("queue", 1)
        assert told["expected_wait"] > 0, "requests of before have shown the pace"
        assert (first["response"], first["done"]) == ("", False)
        assert answer.headers["X-Queue-Position"] == "1"
        assert float(answer.headers["X-Queue-Expected-Wait"]) == told["expected_wait"]
        assert "X-Queue-Wait" not in answer.headers, "it is not over"
    rest = [json.loads(line) for line in lines]
    told = [line["progress"] for line in rest if "progress" in line]
    assert told[-1]["phase"] == "prompt"
    assert told[-1]["total"] == rest[-1]["prompt_eval_count"]
    assert rest[-1]["done"]
    assert any(line["response"] for line in rest)


def test_the_official_client_takes_progress_as_pieces_without_text(one_place: LiveServer) -> None:
    with closing(Asked(one_place, "bulk").begun()):
        body = {"model": "demo", "prompt": "Hi", "progress": True, "options": {"num_predict": 4}}
        waiting = Asked(one_place, "other", **body).begun()
        pieces = waiting.iter_lines()
        first = ollama.GenerateResponse(**json.loads(next(pieces)))
    found = [first, *(ollama.GenerateResponse(**json.loads(line)) for line in pieces)]
    assert first.response == ""
    assert found[-1].done
    assert "".join(piece.response or "" for piece in found)


def test_openais_client_is_told_the_progress_of_its_chat(one_place: LiveServer) -> None:
    with closing(Asked(one_place, "bulk").begun()):
        client = openai.OpenAI(base_url=f"{one_place.url}/v1", api_key="x", default_headers={"X-Test-Caller": "other"})
        stream = client.chat.completions.create(
            model="demo", messages=HI, max_tokens=4, stream=True, extra_body={"progress": True}
        )
        chunks = iter(stream)
        first = next(chunks)
        assert stream.response.headers["X-Queue-Position"] == "1"
    assert first.choices == []
    assert (first.model_extra or {})["progress"].items() >= {"phase": "queue", "position": 1}.items()
    rest = list(chunks)
    assert rest[-1].choices[0].finish_reason == "length"


def test_openais_helpers_pass_progress_over(one_place: LiveServer) -> None:
    client = openai.OpenAI(base_url=f"{one_place.url}/v1", api_key="x")
    with client.chat.completions.stream(model="demo", messages=HI, max_tokens=4, extra_body={"progress": True}) as chat:
        chunks = [event for event in chat if event.type == "chunk"]
        assert any("progress" in (event.chunk.model_extra or {}) for event in chunks)
        assert chunks[-1].snapshot.choices[0].finish_reason == "length"
    with client.responses.stream(
        model="demo", input="Hi", max_output_tokens=4, extra_body={"progress": True}
    ) as response:
        types = [str(event.type) for event in response]
        assert types[2] == "keepalive", "that is its progress"
        assert types[-1] == "response.incomplete"


def test_anthropics_client_passes_progress_over(one_place: LiveServer) -> None:
    others: Any = {"X-Test-Caller": "other"}
    client = anthropic.Anthropic(base_url=one_place.url, api_key="x", default_headers=others)
    running = Asked(one_place, "bulk").begun()
    with client.messages.stream(model="demo", messages=HI, max_tokens=4, extra_body={"progress": True}) as stream:
        assert stream.response.headers["X-Queue-Position"] == "1", "it has begun with a ping"
        running.close()
        assert stream.get_final_message().stop_reason == "max_tokens"
