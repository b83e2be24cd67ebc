"""A model that calls twice, and callers who want one call at most: the answer ends with the first, in every dialect."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.engine.reciter import make_reciter
from tests.hub_cache import add_to_hub_cache
from tests.live_server import LiveServer
from tests.unit.chat_templates import TEMPLATES

SCHEMA = {"type": "object", "properties": {"k": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
CALLS = [f'<tool_call>\n{{"name": "f", "arguments": {{"k": "{k}"}}}}\n</tool_call>' for k in "ab"]
ASKED = [{"role": "user", "content": "x"}]
MODEL = "acme/caller"


@pytest.fixture(scope="module")
def caller(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    template = "{% if false %}" + TEMPLATES["qwen2.5"].text + "{% endif %}"
    files = make_reciter(tmp_path_factory.mktemp("caller"), "I look.", *CALLS, "Done.", template=template)
    snapshot = add_to_hub_cache(Path(server.environ["HF_HUB_CACHE"]), MODEL, files)
    yield server.url
    assert requests.post(f"{server.url}/api/generate", json={"model": MODEL, "keep_alive": 0}, timeout=60).ok
    shutil.rmtree(snapshot.parent.parent)


def post(url: str, **body: Any) -> str:
    response = requests.post(url, json={"model": MODEL, "temperature": 0} | body, timeout=60)
    assert response.status_code == 200, response.text
    response.encoding = "utf-8"
    return response.text


def data_lines(text: str) -> list[dict[str, Any]]:
    found = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in found if line != "[DONE]"]


@pytest.mark.parametrize("is_one", [True, False])
def test_ollama(caller: str, is_one: bool) -> None:
    asked: dict[str, Any] = {"messages": ASKED, "tools": [TOOL], "options": {"temperature": 0}}
    asked |= {"parallel_tool_calls": False} if is_one else {}
    whole = json.loads(post(f"{caller}/api/chat", stream=False, **asked))
    lines = [json.loads(line) for line in post(f"{caller}/api/chat", **asked).splitlines()]
    streamed = [call for line in lines for call in line["message"].get("tool_calls", [])]
    said = "".join(line["message"]["content"] for line in lines)
    for calls, text, last in (
        (whole["message"]["tool_calls"], whole["message"]["content"], whole),
        (streamed, said, lines[-1]),
    ):
        assert [call["function"]["arguments"]["k"] for call in calls] == (["a"] if is_one else ["a", "b"])
        assert text == ("I look." if is_one else "I look.Done.")
        # a text, a call, and without a bound another call, another text and the end of the turn
        assert (last["done_reason"], last["eval_count"]) == ("stop", 2 if is_one else 5)


@pytest.mark.parametrize("is_one", [True, False])
def test_chat_completions(caller: str, is_one: bool) -> None:
    asked: dict[str, Any] = {"messages": ASKED, "tools": [TOOL], "parallel_tool_calls": not is_one}
    (choice,) = json.loads(post(f"{caller}/v1/chat/completions", **asked))["choices"]
    assert len(choice["message"]["tool_calls"]) == (1 if is_one else 2)
    assert choice["finish_reason"] == "tool_calls"
    chunks = [chunk["choices"][0] for chunk in data_lines(post(f"{caller}/v1/chat/completions", stream=True, **asked))]
    calls = [call for chunk in chunks for call in chunk["delta"].get("tool_calls", [])]
    assert {call["index"] for call in calls} == ({0} if is_one else {0, 1})
    assert chunks[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("is_one", [True, False])
def test_responses(caller: str, is_one: bool) -> None:
    tool = {"type": "function", "name": "f", "parameters": SCHEMA}
    asked: dict[str, Any] = {"input": "x", "store": False, "tools": [tool], "parallel_tool_calls": not is_one}
    kinds = ["message", "function_call"] + ([] if is_one else ["function_call", "message"])
    assert [item["type"] for item in json.loads(post(f"{caller}/v1/responses", **asked))["output"]] == kinds
    last = data_lines(post(f"{caller}/v1/responses", stream=True, **asked))[-1]
    assert last["type"] == "response.completed"
    assert [item["type"] for item in last["response"]["output"]] == kinds


@pytest.mark.parametrize("is_one", [True, False])
def test_anthropic(caller: str, is_one: bool) -> None:
    tools = [{"name": "f", "input_schema": SCHEMA}]
    choice = {"type": "auto", "disable_parallel_tool_use": is_one}
    asked: dict[str, Any] = {"messages": ASKED, "tools": tools, "tool_choice": choice, "max_tokens": 50}
    kinds = ["text", "tool_use"] + ([] if is_one else ["tool_use", "text"])
    whole = json.loads(post(f"{caller}/v1/messages", **asked))
    assert ([block["type"] for block in whole["content"]], whole["stop_reason"]) == (kinds, "tool_use")
    events = data_lines(post(f"{caller}/v1/messages", stream=True, **asked))
    started = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert started == kinds
    (stop,) = [event["delta"]["stop_reason"] for event in events if event["type"] == "message_delta"]
    assert stop == "tool_use"
