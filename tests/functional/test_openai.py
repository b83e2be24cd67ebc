"""OpenAI's endpoints on the wire, over an engine that plays a script."""

import base64
import json
import struct
from datetime import datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from hugging_llama.errors import EngineBusyError, GenerationError
from hugging_llama.neutral.events import (
    Finished,
    FinishReason,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from hugging_llama.neutral.formats import Choice, JsonObject, JsonSchema
from hugging_llama.neutral.messages import Message, Tool, ToolCall
from hugging_llama.neutral.requests import (
    ChatPrompt,
    EmbedRequest,
    GenerateRequest,
    LoadRequest,
    TextPrompt,
    TokensPrompt,
    ToolChoice,
)
from hugging_llama.testing import ScriptedEngine
from tests.functional.conftest import MakeClient
from tests.hub_cache import MINILM

HI = [{"role": "user", "content": "Hi"}]
USAGE = Usage(num_prompt_tokens=5, num_cached_tokens=2, num_output_tokens=3, num_thinking_tokens=1)
END = Finished(reason=FinishReason.STOP, usage=USAGE)
CALL = ToolCall(id="call_1", name="f", arguments={"z": 1, "a": "ü"})
WEATHER = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def post(client: FlaskClient, path: str = "/v1/chat/completions", **body: Any) -> Any:
    if path == "/v1/chat/completions":
        body = {"messages": HI, **body}
    return client.post(path, json={"model": "demo", **body})


def events(response: Any) -> list[Any]:
    assert response.status_code == 200, response.text
    assert response.content_type.startswith("text/event-stream")
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    return [part if part == "data: [DONE]" else json.loads(part[6:]) for part in parts]


def request(engine: ScriptedEngine) -> GenerateRequest:
    found = engine.requests[-1]
    assert isinstance(found, GenerateRequest)
    return found


def test_a_whole_answer(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[ThinkingDelta("hm"), TextDelta("Hel"), TextDelta("lo"), END])
    answer = post(client).get_json()
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], answer["model"]) == ("chat.completion", "demo")
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None, "reasoning": "hm"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


def test_a_stream(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[ThinkingDelta("hm"), TextDelta("Hello"), ToolCallDelta(CALL), END])
    found = events(post(client, stream=True, stream_options={"include_usage": True}))
    assert found.pop() == "data: [DONE]"
    assert len({(chunk["id"], chunk["created"]) for chunk in found}) == 1
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in found)
    deltas = [chunk["choices"][0]["delta"] for chunk in found[:-1]]
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"z":1,"a":"ü"}'}}
    assert deltas == [
        {"role": "assistant", "content": "", "reasoning": "hm"},
        {"content": "Hello"},
        {"tool_calls": [call]},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in found[:-1]] == [None, None, None, "tool_calls"]
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["completion_tokens"] == 3
    assert "usage" not in found[0]


def test_results_of_many_calls(make_client: MakeClient) -> None:
    """The latest call of an id is meant; looked for among all calls, so many would take minutes."""
    client, engine = make_client()
    number = 20_000  # a request may have 200,000 names
    ids: list[Any] = [f"c{index}" for index in range(number)]
    turns = [
        {"role": "assistant", "tool_calls": [{"id": id, "function": {"name": name}} for id in ids]}
        for name in ("old", "new")
    ]
    results = [{"role": "tool", "content": "x", "tool_call_id": id} for id in (*ids, "other", None, ["c0"])]
    assert post(client, messages=[*turns, *results]).status_code == 200
    prompt = request(engine).prompt
    assert isinstance(prompt, ChatPrompt)
    assert [message.tool_name for message in prompt.messages[2:]] == ["new"] * number + [None] * 3


def test_an_answer_without_a_word(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[Finished(reason=FinishReason.LENGTH)])
    first, last, done = events(post(client, stream=True))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"][0]["finish_reason"] == "length"
    assert done == "data: [DONE]"


def test_several_choices(make_client: MakeClient) -> None:
    client, engine = make_client(generate=[TextDelta("a"), END])
    answer = post(client, n=3, seed=7).get_json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 9
    assert answer["usage"]["prompt_tokens"] == 5
    seeds = [found.sampling.seed for found in engine.requests if isinstance(found, GenerateRequest)]
    assert seeds == [7, 8, 9]
    found = events(post(client, n=2, stream=True))
    assert found.count("data: [DONE]") == 1
    assert {chunk["choices"][0]["index"] for chunk in found[:-1]} == {0, 1}


def test_what_the_engine_is_asked(make_client: MakeClient) -> None:
    client, engine = make_client()
    post(
        client,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {
                "role": "assistant",
                "content": None,
                "reasoning": "hm",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
        max_completion_tokens=9,
        stop="x",
        logit_bias={"5": -1},
        reasoning_effort="xhigh",
        top_k=3,
        frequency_penalty=0.5,
    )
    found = request(engine)
    assert found.prompt == ChatPrompt(
        messages=(
            Message(role="system", content="Be brief."),
            Message(role="user", content="a\nb"),
            Message(
                role="assistant", thinking="hm", tool_calls=(ToolCall(id="c1", name="f", arguments={"a": 1}, index=0),)
            ),
            Message(role="tool", content="42", tool_call_id="c1", tool_name="f"),
        ),
        tools=(Tool(name="f", description="d", parameters={"type": "object"}),),
        tool_choice=ToolChoice(mode="required", name="f", parallel=False),
        think="max",
    )
    sampling = found.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.stop) == (1.0, 1.0, 9, ("x",))
    assert (sampling.logit_bias, sampling.top_k, sampling.frequency_penalty) == (((5, -1.0),), 3, 0.5)


def test_formats(make_client: MakeClient) -> None:
    client, engine = make_client()
    schema = {"type": "object", "properties": {"b": {}, "a": {}}}
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, JsonObject()),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}},
            JsonSchema('{"type":"object","properties":{"b":{},"a":{}}}'),
        ),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, Choice(("yes", "no"))),
    ]
    for body, expected in cases:
        text = json.dumps({"model": "demo", "messages": HI, **body})  # the order of keys counts
        assert client.post("/v1/chat/completions", data=text).status_code == 200
        assert request(engine).format == expected


def test_log_probabilities(make_client: MakeClient) -> None:
    entry = TokenLogprob("é".encode(), -0.5, (TokenLogprob(b"e", -1.0),))
    client, _ = make_client(generate=[TextDelta("é", (entry,)), END])
    (found,) = post(client, logprobs=True, top_logprobs=1).get_json()["choices"][0]["logprobs"]["content"]
    assert found == {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [{"token": "e", "logprob": -1.0, "bytes": [101]}],
    }
    text = post(client, "/v1/completions", prompt="caf", logprobs=1, echo=False).get_json()
    assert text["choices"][0]["logprobs"] == {
        "tokens": ["é"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"e": -1.0, "é": -0.5}],
        "text_offset": [0],
    }


def test_log_probabilities_are_those_of_the_text(make_client: MakeClient) -> None:
    """Of tokens that show nothing yet, those that belong to a text that comes."""
    names = [b"<th", b"ink>", b"hm", b"</think>", b"\n", b"\xc3", b"\xbc", b"<tool", b"{}"]
    opened, tag, thought, closed, space, first, second, mark, body = (TokenLogprob(name, -0.5) for name in names)
    script = [
        TextDelta("", (opened,)), ThinkingDelta("", (tag,)), ThinkingDelta("hm", (thought,)),
        ThinkingDelta("", (closed,)), ThinkingDelta("", (space,)), TextDelta("", (first,)), TextDelta("ü", (second,)),
        TextDelta("", (mark,)), TextDelta("", (body,)), ToolCallDelta(CALL), END,
    ]  # fmt: skip
    client, _ = make_client(generate=script)
    (choice,) = post(client, logprobs=True).get_json()["choices"]
    assert (choice["message"]["content"], choice["message"]["reasoning"]) == ("ü", "hm")
    wanted = [list(first.token), list(second.token)]
    assert [entry["bytes"] for entry in choice["logprobs"]["content"]] == wanted
    found = [chunk["choices"][0] for chunk in events(post(client, stream=True, logprobs=True))[:-1]]
    told = [part for part in found if part.get("logprobs")]
    assert [part["delta"]["content"] for part in told] == ["ü"]
    assert [entry["bytes"] for entry in told[0]["logprobs"]["content"]] == wanted
    assert [part["delta"].get("reasoning") for part in found] == ["hm", None, None, None]


def test_text_completions(make_client: MakeClient) -> None:
    client, engine = make_client(generate=[TextDelta(" world"), END])
    answer = post(client, "/v1/completions", prompt=["Hello", "Bye"], echo=True, n=2).get_json()
    assert answer["object"] == "text_completion"
    assert [choice["text"] for choice in answer["choices"]] == ["Hello world"] * 2 + ["Bye world"] * 2
    assert request(engine).prompt == TextPrompt(text="Bye")
    assert request(engine).sampling.max_tokens == 16
    found = events(post(client, "/v1/completions", prompt="Hello", echo=True, stream=True))
    assert [chunk["choices"][0]["text"] for chunk in found[:-1]] == ["Hello world", ""]
    assert [chunk["choices"][0]["finish_reason"] for chunk in found[:-1]] == [None, "stop"]


def test_a_gap_needs_a_model_that_fills_gaps(make_client: MakeClient) -> None:
    client, _ = make_client()
    response = post(client, "/v1/completions", prompt="a", suffix="b")
    assert response.status_code == 400
    assert "insert" in response.get_json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "status", "text", "param"),
    [
        ("/v1/chat/completions", {"messages": []}, 400, "[] is too short - 'messages'", "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user"}]}, 400, "<nil>", "messages"),
        ("/v1/chat/completions", {"messages": [5]}, 400, "invalid message format", "messages"),
        ("/v1/chat/completions", {"model": "nobody"}, 404, "model 'nobody' not found", None),
        ("/v1/chat/completions", {"model": None}, 400, "model parameter", "model"),
        ("/v1/chat/completions", {"model": ""}, 400, "model is required", "model"),
        ("/v1/responses", {"model": "", "input": "Hi"}, 400, "model is required", "model"),
        ("/v1/completions", {"model": "", "prompt": "a"}, 404, "model '' not found", None),
        ("/v1/embeddings", {"model": "", "input": "a"}, 404, "model '' not found", None),
        ("/v1/embeddings", {"model": "no", "input": "a"}, 404, 'model "no" not found, try pulling it first', None),
        ("/v1/chat/completions", {"temperature": "hot"}, 400, "expected number, got string", "temperature"),
        ("/v1/chat/completions", {"temperature": -1}, 400, "at least 0", "temperature"),
        ("/v1/chat/completions", {"temperature": 10**400}, 400, "a smaller number", "temperature"),
        ("/v1/chat/completions", {"n": 17}, 400, "at most 16", "n"),
        ("/v1/chat/completions", {"top_logprobs": 21, "logprobs": True}, 400, "at most 20", "top_logprobs"),
        ("/v1/chat/completions", {"top_logprobs": 2}, 400, "logprobs", "top_logprobs"),
        ("/v1/chat/completions", {"tool_choice": "required"}, 400, "tools", "tool_choice"),
        ("/v1/chat/completions", {"tools": [{}]}, 400, "a tool must be", "tools"),
        ("/v1/chat/completions", {"response_format": {"type": "xml"}}, 400, "json_schema", "response_format"),
        ("/v1/chat/completions", {"response_format": "json_schema"}, 400, "json_schema", "response_format"),
        (
            "/v1/chat/completions",
            {"reasoning_effort": "huge"},
            400,
            "invalid reasoning value",
            "reasoning_effort",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "assistant", "tool_calls": 5}]},
            400,
            "invalid tool call format",
            "messages",
        ),
        ("/v1/chat/completions", {"functions": [{}]}, 400, "tools", "functions"),
        ("/v1/chat/completions", {"stop": [5]}, 400, "'stop' must be", "stop"),
        ("/v1/chat/completions", {"stop": {}}, 400, "'stop' must be", "stop"),
        ("/v1/completions", {"prompt": "", "stop": False}, 400, "'stop' must be", "stop"),
        ("/v1/chat/completions", {"logit_bias": {"a": 1}}, 400, "token ids", "logit_bias"),
        ("/v1/chat/completions", {"logit_bias": {"9" * 5000: 1}}, 400, "token ids", "logit_bias"),
        ("/v1/chat/completions", {"model": MINILM}, 400, "does not support chat", None),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400,
            "does not support vision",
            None,
        ),
        ("/v1/completions", {"prompt": [1, "a"]}, 400, "token ids", "prompt"),
        ("/v1/completions", {"prompt": [[1], "a"]}, 400, "token ids", "prompt"),
        ("/v1/completions", {"prompt": [-1]}, 400, "token ids", "prompt"),
        ("/v1/completions", {"prompt": [True]}, 400, "token ids", "prompt"),
        ("/v1/completions", {"prompt": [2**31]}, 400, "token ids", "prompt"),
        ("/v1/completions", {"prompt": [[1], []]}, 400, "none of them empty", "prompt"),
        ("/v1/completions", {"prompt": []}, 400, "none of them empty", "prompt"),
        ("/v1/completions", {"prompt": ["a", ""]}, 400, "none of them empty", "prompt"),
        ("/v1/completions", {"prompt": "", "model": MINILM}, 400, "does not support chat", None),
        ("/v1/completions", {"prompt": [1], "suffix": "b"}, 400, "needs a 'prompt' of text", "suffix"),
        ("/v1/completions", {}, 400, "'prompt' must be", "prompt"),
        ("/v1/completions", {"prompt": "a", "best_of": 2}, 400, "best_of", "best_of"),
        ("/v1/embeddings", {"input": []}, 400, "invalid input", "input"),
        ("/v1/embeddings", {"input": [[1], []]}, 400, "invalid input type", "input"),
        ("/v1/embeddings", {"input": [1, "a"]}, 400, "invalid input type", "input"),
        ("/v1/embeddings", {"input": [1.5]}, 400, "invalid input type", "input"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "hex"}, 400, "Supported values", "encoding_format"),
        ("/v1/embeddings", {"input": "a"}, 400, "does not support embedding", None),
    ],
)
def test_errors(make_client: MakeClient, path: str, body: dict[str, Any], status: int, text: str, param: Any) -> None:
    client, _ = make_client()
    response = post(client, path, **body)
    error = response.get_json()["error"]
    assert response.status_code == status, response.text
    assert text in error["message"]
    assert error["param"] == param
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")


def test_failures_before_and_in_a_stream(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[EngineBusyError("busy", queue_depth=3, retry_after_s=2.0)])
    response = post(client, stream=True)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "2"
    client, _ = make_client(generate=[TextDelta("a"), GenerationError("it broke")])
    found = events(post(client, stream=True))
    assert found[-1]["error"]["message"] == "it broke"
    assert "data: [DONE]" not in found
    client, _ = make_client(generate=[TextDelta("a"), Finished(reason=FinishReason.SHUTDOWN)])
    assert post(client).status_code == 503


def test_bodies_that_are_none(make_client: MakeClient) -> None:
    client, _ = make_client()
    for data in (b"", b"{", b"[]", b"\xff"):
        response = client.post("/v1/chat/completions", data=data)
        assert response.status_code == 400
        assert response.get_json()["error"]["type"] == "invalid_request_error"
    assert client.post("/v1/chat/completions", data=b"").get_json()["error"]["message"] == "EOF"


def test_what_is_ignored_is_told(make_client: MakeClient) -> None:
    client, _ = make_client()
    response = post(client, user="me", store=True, nonsense=1, seed=None)
    assert response.headers["X-Ignored-Fields"] == "nonsense, store, user"
    assert "X-Ignored-Fields" not in post(client).headers


def test_embeddings(make_client: MakeClient) -> None:
    client, _ = make_client()
    answer = post(client, "/v1/embeddings", model=MINILM, input=["a", ""]).get_json()
    assert [item["index"] for item in answer["data"]] == [0, 1]
    assert answer["data"][0]["embedding"] == [pytest.approx(0.6), pytest.approx(0.8)]
    assert answer["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    packed = post(client, "/v1/embeddings", model=MINILM, input="a", encoding_format="base64").get_json()
    assert struct.unpack("<2f", base64.b64decode(packed["data"][0]["embedding"])) == pytest.approx((0.6, 0.8))


def test_models(make_client: MakeClient) -> None:
    client, _ = make_client()
    listed = client.get("/v1/models").get_json()
    assert listed["object"] == "list"
    assert {item["id"] for item in listed["data"]} >= {"hugging-llama/demo:latest"}
    one = client.get("/v1/models/hugging-llama/demo").get_json()
    assert (one["id"], one["object"], one["owned_by"]) == ("hugging-llama/demo", "model", "hugging-llama")
    missing = client.get("/v1/models/no/body")
    assert missing.status_code == 404
    assert missing.get_json()["error"]["type"] == "not_found_error"
    assert missing.get_json()["error"]["message"] == "model 'no/body:latest' not found"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_names_of_cloud_models_are_refused_in_ollamas_words(make_client: MakeClient, path: str) -> None:
    client, _ = make_client()
    response = client.post(path, json={"model": "gpt-oss:20b-cloud", "messages": HI, "max_tokens": 5})
    text = "ollama cloud is disabled: remote model is unavailable"
    assert (response.status_code, response.get_json()["error"]["message"]) == (403, text)


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", {"messages": HI}), ("/v1/completions", {"prompt": "a"})]
)
def test_a_negative_limit_is_none(make_client: MakeClient, path: str, body: dict[str, Any]) -> None:
    client, engine = make_client()
    made = {"model": "short", "from": "demo", "parameters": {"num_predict": 9}, "stream": False}
    assert client.post("/api/create", json=made).status_code == 200
    for limits, expected in (({"max_tokens": -1}, None), ({"max_tokens": 0}, 0), ({"max_tokens": 7}, 7)):
        assert client.post(path, json={"model": "short", **body, **limits}).status_code == 200
        assert request(engine).sampling.max_tokens == expected


def test_the_newer_limit_wins_and_may_be_none_too(make_client: MakeClient) -> None:
    client, engine = make_client()
    post(client, max_completion_tokens=-1, max_tokens=5)
    assert request(engine).sampling.max_tokens is None


def test_the_usage_of_several_prompts_is_that_of_all(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[TextDelta("a"), END])
    options = {"prompt": ["Hello", "Bye"], "n": 2}
    whole = post(client, "/v1/completions", **options).get_json()["usage"]
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    streamed = events(post(client, "/v1/completions", **options, **usage))[-2]["usage"]
    for found in (whole, streamed):
        assert (found["prompt_tokens"], found["completion_tokens"], found["total_tokens"]) == (10, 12, 22)
        assert found["prompt_tokens_details"]["cached_tokens"] == 4


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_no_more_answers_than_can_be_here_at_once(make_client: MakeClient, path: str) -> None:
    """To try again would not help, so it is no full queue."""
    client, engine = make_client(max_num_seqs=1, max_queue=1)
    prompt = {"prompt": "Hello"} if "chat" not in path else {}
    error = post(client, path, n=3, stream=True, **prompt)
    assert (error.status_code, error.get_json()["error"]["param"]) == (400, "n")
    assert "at most 2 at once" in error.get_json()["error"]["message"]
    assert engine.requests == []
    assert post(client, path, n=2, **prompt).status_code == 200


def test_an_empty_prompt_loads_the_model(make_client: MakeClient) -> None:
    client, engine = make_client()
    nothing = {"text": "", "index": 0, "logprobs": None, "finish_reason": "load"}
    whole = post(client, "/v1/completions", prompt="")
    assert isinstance(engine.requests[-1], LoadRequest)
    assert whole.get_json()["choices"] == [nothing]
    assert whole.get_json()["usage"]["total_tokens"] == 0
    options = {"stream": True, "stream_options": {"include_usage": True}}
    first, usage, done = events(post(client, "/v1/completions", prompt="", n=2, echo=True, **options))
    assert first["choices"] == [nothing, {**nothing, "index": 1}]
    assert (usage["choices"], usage["usage"]["total_tokens"], done) == ([], 0, "data: [DONE]")


@pytest.mark.parametrize(("prompt", "ids"), [([104, 105], [(104, 105)]), ([[104], [105, 106]], [(104,), (105, 106)])])
def test_prompts_of_token_ids_go_in_as_they_are(
    make_client: MakeClient, prompt: list[Any], ids: list[tuple[int, ...]]
) -> None:
    client, engine = make_client()
    choices = post(client, "/v1/completions", prompt=prompt, echo=True).get_json()["choices"]
    # the scripted engine's tokens are bytes
    assert [choice["text"] for choice in choices] == [bytes(part).decode() + "Hello!" for part in ids]
    asked = [request for request in engine.requests if isinstance(request, GenerateRequest)]
    assert [request.prompt for request in asked] == [TokensPrompt(token_ids=part) for part in ids]


def test_nothing_is_read_back_that_nobody_wants_to_see(make_client: MakeClient) -> None:
    client, engine = make_client()
    post(client, "/v1/completions", prompt=[104, 105])
    assert [type(request) for request in engine.requests] == [GenerateRequest]


@pytest.mark.parametrize(("value", "inputs"), [([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3)))])
def test_token_ids_are_embedded(make_client: MakeClient, value: Any, inputs: Any) -> None:
    client, engine = make_client()
    answer = post(client, "/v1/embeddings", model=MINILM, input=value).get_json()
    assert len(answer["data"]) == len(inputs)
    (request,) = engine.requests
    assert isinstance(request, EmbedRequest)
    assert request.inputs == inputs


def test_models_for_clients_of_anthropic(make_client: MakeClient) -> None:
    client, _ = make_client()
    assert client.get("/v1/models").get_json().keys() == {"object", "data"}
    listed = client.get("/v1/models?limit=1000", headers={"anthropic-version": "2023-06-01"}).get_json()
    assert (listed["has_more"], listed["first_id"]) == (False, listed["data"][0]["id"])
    assert listed["last_id"] == listed["data"][-1]["id"]
    demo = next(item for item in listed["data"] if item["id"] == "hugging-llama/demo:latest")
    assert (demo["type"], demo["display_name"]) == ("model", "hugging-llama/demo:latest")
    assert datetime.fromisoformat(demo["created_at"]).timestamp() == demo["created"]


@pytest.mark.parametrize(("choice", "told"), [("auto", "tools.function.strict"), ("required", None), (None, None)])
def test_a_schema_that_holds_nobody_is_told(make_client: MakeClient, choice: str | None, told: str | None) -> None:
    client, _ = make_client()
    tool = {"type": "function", "function": {"name": "f", "strict": choice is not None}}
    response = post(client, tools=[tool], tool_choice=choice)
    assert response.headers.get("X-Ignored-Fields") == told
