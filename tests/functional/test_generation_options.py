"""What the options, logprobs and truncation of /api/generate and /api/chat are on the wire."""

import logging
from typing import Any

import pytest

from hugging_llama.neutral.events import (
    Finished,
    FinishReason,
    Started,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from hugging_llama.neutral.messages import ToolCall
from hugging_llama.neutral.requests import GenerateRequest
from tests.functional.conftest import MakeClient
from tests.functional.test_generate import DEMO, DONE, MESSAGES, lines, post

CHAT = {"model": DEMO, "messages": MESSAGES}
EURO = "€".encode()
LOGPROBS = (
    TokenLogprob(b"Hi", -0.25, (TokenLogprob(b"Hi", -0.25), TokenLogprob(b" x", -2.0))),
    TokenLogprob(EURO[:2], -0.5),
    TokenLogprob(EURO[2:], 0.0),
)
EXPECTED = [
    {
        "token": "Hi", "logprob": -0.25, "bytes": [72, 105],
        "top_logprobs": [
            {"token": "Hi", "logprob": -0.25, "bytes": [72, 105]},
            {"token": " x", "logprob": -2.0, "bytes": [32, 120]},
        ],
    },
    {"token": "\ufffd", "logprob": -0.5, "bytes": [226, 130]},
    {"token": "\ufffd", "logprob": 0.0, "bytes": [172]},
]  # fmt: skip


def sent(make_client: MakeClient, body: dict[str, Any], path: str = "/api/chat") -> GenerateRequest:
    client, engine = make_client()
    assert post(client, path, body).status_code == 200
    request = engine.requests[0]
    assert isinstance(request, GenerateRequest)
    return request


@pytest.mark.parametrize(
    ("body", "top_logprobs"),
    [({}, None), ({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 3}, 3), ({"top_logprobs": 2}, 2)],
)
def test_logprobs_are_asked_for(make_client: MakeClient, body: dict[str, Any], top_logprobs: int | None) -> None:
    assert sent(make_client, CHAT | body).sampling.top_logprobs == top_logprobs
    generate = {"model": DEMO, "prompt": "x", **body}
    assert sent(make_client, generate, "/api/generate").sampling.top_logprobs == top_logprobs


@pytest.mark.parametrize(("path", "body"), [("/api/chat", CHAT), ("/api/generate", {"model": DEMO, "prompt": "x"})])
def test_logprobs_ride_on_the_chunk_of_their_token(make_client: MakeClient, path: str, body: dict[str, Any]) -> None:
    call = ToolCall(id="call_1", name="f", arguments={})
    events = [
        ThinkingDelta("Hi", LOGPROBS[:1]),
        TextDelta("", LOGPROBS[1:2]),
        TextDelta("€", LOGPROBS[2:]),
        ToolCallDelta(call),
        DONE,
    ]
    client, _ = make_client(generate=events)
    found = lines(post(client, path, body | {"logprobs": True}))
    assert [line.get("logprobs") for line in found] == [EXPECTED[:1], EXPECTED[1:2], EXPECTED[2:], None, None]
    whole = post(client, path, body | {"logprobs": True, "stream": False}).get_json()
    assert whole["logprobs"] == EXPECTED


@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_prompt_is_told_in_a_header_and_at_the_end(make_client: MakeClient, stream: bool) -> None:
    usage = Usage(num_prompt_tokens=5, num_truncated_tokens=42)
    events = [
        Started(num_prompt_tokens=9, num_cached_tokens=0, num_truncated_tokens=30),
        TextDelta("Hi"),
        Finished(reason=FinishReason.STOP, usage=usage),
    ]
    client, _ = make_client(generate=events)
    response = post(client, "/api/chat", CHAT | {"stream": stream})
    assert response.headers["X-Truncated-Tokens"] == "30"
    found = lines(response) if stream else [response.get_json()]
    assert found[-1]["truncated_tokens"] == 42
    assert len(found) == (2 if stream else 1)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": CHAT["messages"]}),
        ("/v1/chat/completions", {"messages": CHAT["messages"], "n": 2}),
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/messages", {"messages": CHAT["messages"], "max_tokens": 9}),
    ],
)
def test_a_cut_prompt_is_told_in_every_dialect(
    make_client: MakeClient, path: str, body: dict[str, Any], stream: bool
) -> None:
    client, _ = make_client(
        generate=[
            Started(num_prompt_tokens=9, num_cached_tokens=0, num_truncated_tokens=30),
            TextDelta("Hi"),
            Finished(reason=FinishReason.STOP),
        ]
    )
    response = post(client, path, {"model": "demo", "stream": stream, **body})
    assert response.headers["X-Truncated-Tokens"] == "30"


@pytest.mark.parametrize("stream", [True, False])
def test_a_whole_prompt_is_not_talked_about(make_client: MakeClient, stream: bool) -> None:
    client, _ = make_client()
    response = post(client, "/api/chat", CHAT | {"stream": stream})
    assert "X-Truncated-Tokens" not in response.headers
    assert "truncated_tokens" not in response.get_data(as_text=True)


def test_shift_and_what_it_keeps(make_client: MakeClient) -> None:
    default = sent(make_client, CHAT)
    assert (default.shift, default.truncate, default.sampling.num_keep) == (True, True, 4)
    chosen = sent(make_client, CHAT | {"shift": False, "truncate": False, "options": {"num_keep": 9}})
    assert (chosen.shift, chosen.truncate, chosen.sampling.num_keep) == (False, False, 9)


def test_options_that_do_nothing_are_said_once(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    client, engine = make_client()
    body = CHAT | {"options": {"num_gpu": 0, "num_thread": 3, "mirostat": 2, "top_k": 7}}
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert post(client, "/api/chat", body).status_code == 200
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("option ")]
    assert said == [
        "option 'num_gpu' has no effect here; see docs/api/generation.md",
        "option 'num_thread' has no effect here; see docs/api/generation.md",
        "option 'mirostat' is not known here and is ignored",
    ]
    request = engine.requests[0]
    assert isinstance(request, GenerateRequest)
    assert request.sampling.top_k == 7
