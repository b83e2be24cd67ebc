"""POST /v1/responses on the wire, over an engine that plays a script."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai.types.responses import Response as WireResponse
from openai.types.responses.response_stream_event import ResponseStreamEvent
from pydantic import TypeAdapter

from hugging_llama.errors import ContextLengthError, EngineBusyError, GenerationError, TextTooLongError
from hugging_llama.neutral.events import (
    Finished,
    FinishReason,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from hugging_llama.neutral.formats import JsonObject, JsonSchema, Regex
from hugging_llama.neutral.messages import Message, Tool, ToolCall
from hugging_llama.neutral.requests import ChatPrompt, GenerateRequest, ToolChoice
from hugging_llama.testing import ScriptedEngine
from tests.functional.conftest import MakeClient
from tests.hub_cache import MINILM

USAGE = Usage(num_prompt_tokens=5, num_cached_tokens=2, num_output_tokens=3, num_thinking_tokens=1)
END = Finished(reason=FinishReason.STOP, usage=USAGE)
CALL = ToolCall(id="call_1", name="f", arguments={"z": 1, "a": "ü"})
F = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def post(client: FlaskClient, **body: Any) -> Any:
    return client.post("/v1/responses", json={"model": "demo", "input": "Hi", **body})


def events(response: Any) -> list[Any]:
    """The stream's events, each of the shape that the official client's types want."""
    assert response.status_code == 200, response.text
    assert response.content_type.startswith("text/event-stream")
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    found = []
    for number, part in enumerate(parts):
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        EVENT.validate_python(event)
        found.append(event)
    return found


def request(engine: ScriptedEngine) -> GenerateRequest:
    found = engine.requests[-1]
    assert isinstance(found, GenerateRequest)
    return found


def prompt(engine: ScriptedEngine) -> ChatPrompt:
    found = request(engine).prompt
    assert isinstance(found, ChatPrompt)
    return found


def without_ids(value: Any) -> Any:
    """With each id and time cut to what it begins with."""
    if isinstance(value, dict):
        return {key: _short(key, item) for key, item in value.items()}
    return [without_ids(item) for item in value] if isinstance(value, list) else value


def _short(key: str, value: Any) -> Any:
    if key in ("id", "item_id") and isinstance(value, str):
        return value.partition("_")[0]
    return 0 if key.endswith("_at") and value is not None else without_ids(value)


def test_a_whole_answer(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[ThinkingDelta("hm"), TextDelta("Hel"), TextDelta("lo"), END])
    answer = post(client, metadata={"a": "b"}, instructions="Be brief.", user="me", prompt_cache_key="k").get_json()
    WireResponse.model_validate(answer, strict=True)
    assert len(answer["id"]) == 53
    assert without_ids(answer) == {
        "id": "resp",
        "object": "response",
        "created_at": 0,
        "completed_at": 0,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": "Be brief.",
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "demo",
        "output": [
            {
                "id": "rs",
                "status": "completed",
                "type": "reasoning",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "hm"}],
            },
            {
                "id": "msg",
                "status": "completed",
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
            },
        ],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": "k",
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": 8,
        },
        "user": "me",
        "metadata": {"a": "b"},
    }


def test_a_stream(make_client: MakeClient) -> None:
    client, _ = make_client(
        generate=[ThinkingDelta("h"), ThinkingDelta("m"), TextDelta("Hello"), ToolCallDelta(CALL), END]
    )
    found = events(post(client, stream=True, tools=[F]))
    created, running, *told, last = found
    assert [event["type"] for event in (created, running, last)] == [
        "response.created", "response.in_progress", "response.completed",
    ]  # fmt: skip
    for event in (created, running):
        assert event["response"]["status"] == "in_progress"
        assert event["response"]["output"] == []
        assert event["response"]["id"] == last["response"]["id"]
    assert [(event["type"].removeprefix("response."), event["output_index"]) for event in told] == [
        ("output_item.added", 0),
        ("content_part.added", 0),
        ("reasoning_text.delta", 0),
        ("reasoning_text.delta", 0),
        ("reasoning_text.done", 0),
        ("content_part.done", 0),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("content_part.added", 1),
        ("output_text.delta", 1),
        ("output_text.done", 1),
        ("content_part.done", 1),
        ("output_item.done", 1),
        ("output_item.added", 2),
        ("function_call_arguments.delta", 2),
        ("function_call_arguments.done", 2),
        ("output_item.done", 2),
    ]
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert last["response"]["output"] == done
    assert told[-1]["item"]["arguments"] == '{"z":1,"a":"ü"}'
    assert told[-4]["item"] == told[-1]["item"] | {"status": "in_progress", "arguments": ""}
    ids = [item["id"] for item in done]
    for event in told:
        if "item_id" in event:
            assert event["item_id"] == ids[event["output_index"]]
    assert "[DONE]" not in post(client, stream=True).text


def test_stream_and_whole_say_the_same(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[ThinkingDelta("hm"), TextDelta("a"), ToolCallDelta(CALL), TextDelta("b"), END])
    for more in ({}, {"reasoning": {"summary": "auto"}}, {"include": ["reasoning.encrypted_content"]}):
        whole = post(client, **more).get_json()
        last = events(post(client, stream=True, **more))[-1]["response"]
        assert without_ids(last) == without_ids(whole)
        assert [item["type"] for item in whole["output"]] == ["reasoning", "message", "function_call", "message"]


def test_a_summary_is_the_whole_reasoning(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[ThinkingDelta("hm"), TextDelta("ok"), END])
    found = events(post(client, stream=True, reasoning={"summary": "auto"}))
    assert [event["type"].removeprefix("response.") for event in found[2:8]] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    answer = found[-1]["response"]
    assert answer["reasoning"]["summary"] == "detailed"
    assert answer["output"][0]["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert answer["output"][0]["content"] == []


def test_reasoning_that_the_client_carries(make_client: MakeClient) -> None:
    client, engine = make_client(generate=[ThinkingDelta("hm"), TextDelta("ok"), END])
    first = post(client, store=False, include=["reasoning.encrypted_content"]).get_json()
    assert first["store"] is False
    thought, said = first["output"]
    assert "encrypted_content" not in post(client).get_json()["output"][0]
    # what Codex sends back: no ids, and no text of the reasoning
    carried = {"type": "reasoning", "summary": [], "content": None, "encrypted_content": thought["encrypted_content"]}
    said = {key: said[key] for key in ("type", "role", "content")}
    post(client, store=False, input=[{"role": "user", "content": "?"}, carried, said, {"role": "user", "content": "!"}])
    assert prompt(engine).messages[1] == Message(role="assistant", content="ok", thinking="hm")


def test_what_the_engine_is_asked(make_client: MakeClient) -> None:
    client, engine = make_client()
    post(
        client,
        instructions="Be brief.",
        input=[{"role": "user", "content": [{"type": "input_text", "text": "a"}]}],
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.4,
        reasoning={"effort": "xhigh"},
        tools=[F],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        seed=7,
        top_k=3,
        stop="x",
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        thinking_budget=4,
    )
    asked = request(engine)
    assert asked.prompt == ChatPrompt(
        messages=(Message(role="system", content="Be brief."), Message(role="user", content="a")),
        tools=(Tool(name="f", description="d", parameters={"type": "object"}),),
        tool_choice=ToolChoice(mode="required", name="f", parallel=False),
        think="max",
    )
    sampling = asked.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed) == (9, 0.5, 0.4, 7)
    assert (sampling.top_k, sampling.stop, sampling.min_p, sampling.presence_penalty) == (3, ("x",), 0.1, 0.2)
    assert (sampling.repetition_penalty, sampling.max_thinking_tokens, sampling.top_logprobs) == (1.1, 4, None)
    assert (asked.truncate, asked.shift) == (False, False)
    post(client, truncation="auto")
    assert (request(engine).truncate, request(engine).shift) == (True, True)
    assert (request(engine).sampling.temperature, request(engine).sampling.top_p) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("given", "format"),
    [
        ({"text": {"format": {"type": "text"}}}, None),
        ({"text": {"format": {"type": "json_object"}}}, JsonObject()),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": 2, "z": 1}, "strict": True}}},
            JsonSchema('{"a":2,"z":1}'),
        ),
        ({"structured_outputs": {"regex": "a+"}}, Regex("a+")),
    ],
)
def test_formats(make_client: MakeClient, given: dict[str, Any], format: Any) -> None:
    client, engine = make_client()
    answer = post(client, **given).get_json()
    assert request(engine).format == format
    assert answer["text"]["format"] == given.get("text", {}).get("format", {"type": "text"})


def test_an_answer_that_reaches_its_limit(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[TextDelta("Hel"), Finished(reason=FinishReason.LENGTH, usage=USAGE)])
    answer = post(client, max_output_tokens=1).get_json()
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["completed_at"] is None
    assert answer["output"][0]["status"] == "incomplete"
    found = events(post(client, stream=True))
    assert found[-1]["type"] == "response.incomplete"
    assert found[-2]["item"]["status"] == "incomplete"


def test_an_answer_without_a_word(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[ThinkingDelta("hm"), END])
    thought, said = post(client).get_json()["output"]
    assert (thought["type"], said["content"][0]["text"]) == ("reasoning", "")
    client, _ = make_client(generate=[Finished(reason=FinishReason.LENGTH)])
    assert post(client).get_json()["output"] == []
    assert len(events(post(client, stream=True))) == 3


def test_log_probabilities(make_client: MakeClient) -> None:
    first = TokenLogprob(b"\xc3", -0.5, (TokenLogprob(b"\xc3", -0.5), TokenLogprob(b"b", -1.0)))
    second = TokenLogprob(b"\xbc", -0.25)
    aside = TokenLogprob(b"<", -0.1)
    thought = [ThinkingDelta("", (aside,)), ThinkingDelta("hm", (aside,)), ThinkingDelta("", (aside,))]
    text = [TextDelta("", (first,)), TextDelta("ü", (second,)), TextDelta("", (aside,))]
    script = [TextDelta("", (aside,)), *thought, *text, ToolCallDelta(CALL), END]
    client, engine = make_client(generate=script)
    found = events(post(client, stream=True, include=["message.output_text.logprobs"], top_logprobs=2))
    assert request(engine).sampling.top_logprobs == 2
    wanted = [
        {
            "token": "�", "logprob": -0.5, "bytes": [0xC3],
            "top_logprobs": [
                {"token": "�", "logprob": -0.5, "bytes": [0xC3]}, {"token": "b", "logprob": -1.0, "bytes": [98]},
            ],
        },
        {"token": "�", "logprob": -0.25, "bytes": [0xBC], "top_logprobs": []},
    ]  # fmt: skip
    deltas = [event for event in found if event["type"] == "response.output_text.delta"]
    assert [delta["logprobs"] for delta in deltas] == [wanted]
    (done,) = [event for event in found if event["type"] == "response.output_text.done"]
    assert done["logprobs"] == wanted
    reasoning, message, _ = found[-1]["response"]["output"]
    assert reasoning["content"][0]["text"] == "hm"
    assert message["content"][0]["logprobs"] == wanted
    post(client, include=["message.output_text.logprobs"])
    assert request(engine).sampling.top_logprobs == 0


def test_calls_are_named_as_the_tools_were(make_client: MakeClient) -> None:
    calls = [
        ToolCall(id="c1", name="ns.f", arguments={"a": 1}),
        ToolCall(id="c2", name="patch", arguments={"input": "*** Begin"}),
        ToolCall(id="c3", name="patch", arguments={"other": 1}),
    ]
    client, engine = make_client(generate=[*map(ToolCallDelta, calls), END])
    space = {"type": "namespace", "name": "ns", "description": "d", "tools": [{"type": "function", "name": "f"}]}
    tools = [F, space, {"type": "custom", "name": "patch"}]
    found = events(post(client, stream=True, tools=tools))
    assert [tool.name for tool in prompt(engine).tools] == ["f", "ns.f", "patch"]
    output = found[-1]["response"]["output"]
    assert [(item["type"], item["name"], item.get("namespace")) for item in output] == [
        ("function_call", "f", "ns"),
        ("custom_tool_call", "patch", None),
        ("custom_tool_call", "patch", None),
    ]
    assert output[0]["arguments"] == '{"a":1}'
    assert [output[1]["input"], output[2]["input"]] == ["*** Begin", '{"other":1}']
    told = [event["type"] for event in found if "custom_tool_call_input" in event["type"]]
    assert told == ["response.custom_tool_call_input.delta", "response.custom_tool_call_input.done"] * 2
    # and what the client sends back is the same conversation again
    outputs = [{"type": item["type"] + "_output", "call_id": item["call_id"], "output": "ok"} for item in output[:3]]
    post(client, tools=tools, input=[{"role": "user", "content": "?"}, *output[:3], *outputs])
    assert [call.name for call in prompt(engine).messages[1].tool_calls] == ["ns.f", "patch", "patch"]
    assert [message.tool_name for message in prompt(engine).messages[2:]] == ["ns.f", "patch", "patch"]


def test_what_codex_sends_works(make_client: MakeClient) -> None:
    client, engine = make_client(generate=[TextDelta("ok"), END])
    response = post(
        client,
        instructions="You are Codex.",
        input=[
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "sandbox"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "ls"}]},
            {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "c1"},
            {"type": "function_call_output", "call_id": "c1", "output": "file"},
        ],
        tools=[
            {"type": "function", "name": "shell", "description": "", "strict": False, "parameters": {"type": "object"}},
            {"type": "local_shell"},
            {"type": "web_search", "external_web_access": False},
            {"type": "custom", "name": "apply_patch", "description": "d",
             "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}},
        ],
        tool_choice="auto",
        parallel_tool_calls=False,
        reasoning=None,
        store=False,
        stream=True,
        include=["reasoning.encrypted_content"],
        prompt_cache_key="0198",
        text={"verbosity": "low"},
    )  # fmt: skip
    found = events(response)
    assert found[-1]["type"] == "response.completed"
    assert found[-1]["response"]["store"] is False
    assert response.headers["X-Ignored-Fields"] == "text.verbosity, tools.format, tools.local_shell, tools.web_search"
    assert [message.role for message in prompt(engine).messages] == ["system", "user", "assistant", "tool"]
    assert prompt(engine).messages[0].content == "You are Codex.\n\nsandbox"
    assert [tool.name for tool in prompt(engine).tools] == ["shell", "apply_patch"]


def test_what_has_no_effect_is_told(make_client: MakeClient) -> None:
    client, _ = make_client()
    response = post(
        client,
        service_tier="flex",
        max_tool_calls=3,
        reasoning={"context": "auto"},
        stream_options={"include_obfuscation": True},
        include=["web_search_call.action.sources"],
        prompt_cache_retention="24h",
        tools=[F | {"strict": True}],
        safety_identifier="x",
    )
    assert response.headers["X-Ignored-Fields"] == (
        "include.web_search_call.action.sources, max_tool_calls, prompt_cache_retention, reasoning.context, "
        "service_tier, stream_options.include_obfuscation, tools.strict"
    )
    assert response.get_json()["service_tier"] == "default"
    assert response.get_json()["safety_identifier"] == "x"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"truncation": "middle"}, "truncation"),
        ({"include": ["everything"]}, "include"),
        ({"include": [[]]}, "include"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format"),
        ({"text": {"format": "json_object"}}, "text.format"),
        ({"text": {"format": {"type": "json_object"}}, "structured_outputs": {"regex": "a"}}, "text.format"),
        ({"reasoning": {"effort": "some"}}, "reasoning.effort"),
        ({"reasoning": {"effort": ["low"]}}, "reasoning.effort"),
        ({"instructions": ["x"]}, "instructions"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"store": "yes"}, "store"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}]}, None),
    ],
)  # fmt: skip
def test_what_is_refused(make_client: MakeClient, body: dict[str, Any], param: str | None) -> None:
    client, engine = make_client()
    response = post(client, **body)
    error = response.get_json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert engine.requests == []


def test_chats_refuse_an_effort_that_is_no_word(make_client: MakeClient) -> None:
    client, _ = make_client()
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "reasoning": {"effort": ["low"]}}
    assert client.post("/v1/chat/completions", json=body).status_code == 400


def test_models_that_can_not(make_client: MakeClient, plain_client: MakeClient) -> None:
    client, _ = make_client()
    assert post(client, model="nobody/nothing").status_code == 404
    assert post(client, model=MINILM).status_code == 400
    client, _ = plain_client()
    assert post(client, model="acme/plain", tools=[F]).status_code == 400
    assert post(client, model="acme/plain", reasoning={"effort": "low"}).status_code == 400
    assert post(client, model="acme/plain", reasoning={"effort": "none"}).status_code == 200


def test_an_early_failure_has_its_status(make_client: MakeClient) -> None:
    for error in (ContextLengthError(9000, 4096), TextTooLongError(9000, 4096)):
        client, _ = make_client(generate=[error])
        for stream in (False, True):
            response = post(client, stream=stream)
            assert (response.status_code, response.get_json()["error"]["code"]) == (400, "context_length_exceeded")
    client, _ = make_client(generate=[EngineBusyError("full", queue_depth=1, retry_after_s=2)])
    assert post(client, stream=True).status_code == 503


def test_a_later_failure_ends_the_stream(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[ThinkingDelta("hm"), TextDelta("Hel"), GenerationError("the model failed")])
    found = events(post(client, stream=True))
    last = found[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "server_error", "message": "the model failed"}
    assert [item["status"] for item in last["response"]["output"]] == ["completed", "incomplete"]
    assert last["response"]["output"][1]["content"][0]["text"] == "Hel"
    assert last["response"]["store"] is False
    assert client.get(f"/v1/responses/{last['response']['id']}").status_code == 404


def test_a_server_that_shuts_down_says_so(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[Finished(reason=FinishReason.SHUTDOWN)])
    created, running, failed = events(post(client, stream=True))
    assert (created["type"], running["type"], failed["type"]) == (
        "response.created", "response.in_progress", "response.failed",
    )  # fmt: skip
    assert post(client).status_code == 503


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"content": "Hi"}, "input[0]: input item missing required 'type' field"),
        ({"type": "film"}, 'input[0]: unknown input item type: "film" (must be one of message, function_call'),
        ({"role": "user", "content": [{"type": "film"}]}, "unknown content type: film"),
        ({"role": "user", "content": [{"type": 5}]}, "a part must be"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "a part must be"),
    ],
)
def test_items_that_nobody_knows_are_told_in_ollamas_words(make_client: MakeClient, item: Any, text: str) -> None:
    response = post(make_client()[0], input=[item])
    assert response.status_code == 400
    assert response.get_json()["error"]["message"].startswith(text)
