"""Who asks reaches the engine, and who waits is told."""

import json
from dataclasses import replace
from typing import Any

import pytest

from hugging_llama.dialects.base import EXTENSION
from hugging_llama.errors import EngineBusyError
from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama.neutral.events import Embeddings, Finished, FinishReason, Progress, Queued, Started, TextDelta
from hugging_llama.neutral.requests import GenerateRequest
from tests.functional.conftest import MakeClient
from tests.functional.test_generate import lines, post
from tests.hub_cache import MINILM

HI = [{"role": "user", "content": "Hi"}]
DONE = Finished(reason=FinishReason.STOP)
WAITED = Started(
    num_prompt_tokens=9,
    num_cached_tokens=0,
    num_truncated_tokens=0,
    queued=Queued(position=3, expected_s=2.5, waited_ns=1_234_500_000),
)
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"prompt": "Hi"}),
    ("/api/chat", {"messages": HI}),
    ("/v1/chat/completions", {"messages": HI}),
    ("/v1/chat/completions", {"messages": HI, "n": 2}),
    ("/v1/completions", {"prompt": "x"}),
    ("/v1/responses", {"input": "x"}),
    ("/v1/messages", {"messages": HI, "max_tokens": 9}),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("/api/embed", {"model": MINILM, "input": "x"}),
    ("/api/embed", {"model": MINILM, "input": []}),
    ("/api/tokenize", {"content": "x"}),
    ("/api/detokenize", {"tokens": [5]}),
    ("/api/generate", {}),
    ("/api/chat", {"messages": []}),
    ("/v1/completions", {"prompt": ""}),
    ("/v1/messages/count_tokens", {"messages": HI}),
]


def test_everybody_is_one_caller_unless_somebody_says_more(make_client: MakeClient) -> None:
    client, engine = make_client()
    post(client, "/api/chat", {"model": "demo", "messages": HI})
    context = client.application.extensions[EXTENSION]
    client.application.extensions[EXTENSION] = replace(context, caller=lambda: Caller("me", priority=2))
    for path, body in BODIES:
        post(client, path, {"model": "demo", **body})
    for path, body in OTHERS:
        assert post(client, path, {"model": "demo", **body}).status_code == 200
    first, *others = engine.requests
    assert isinstance(first, GenerateRequest)
    assert first.caller == ANONYMOUS
    assert len(others) == len(BODIES) + 1 + len(OTHERS)
    assert {request.caller for request in others} == {Caller("me", priority=2)}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("path", "body"), BODIES)
def test_who_had_to_wait_is_told_in_every_dialect(
    make_client: MakeClient, path: str, body: dict[str, Any], stream: bool
) -> None:
    client, _ = make_client(generate=[WAITED, TextDelta("Hi"), DONE])
    response = post(client, path, {"model": "demo", "stream": stream, **body})
    assert response.headers["X-Queue-Position"] == "3"
    assert response.headers["X-Queue-Wait"] == "1.234"
    assert response.headers["X-Queue-Expected-Wait"] == "2.5"
    assert "X-Truncated-Tokens" not in response.headers
    response.get_data()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/embed", {"model": MINILM, "input": "x"}),
        ("/api/embeddings", {"model": MINILM, "prompt": "x"}),
        ("/v1/embeddings", {"model": MINILM, "input": "x"}),
    ],
)
@pytest.mark.parametrize("position", [0, 3])
@pytest.mark.parametrize("num_truncated", [0, 30])
def test_who_had_to_wait_for_vectors_is_told_and_what_did_not_fit(
    make_client: MakeClient, path: str, body: dict[str, Any], position: int, num_truncated: int
) -> None:
    found = Embeddings(
        vectors=((0.6, 0.8),), num_prompt_tokens=1, num_truncated_tokens=num_truncated,
        queued=Queued(position=position, expected_s=2.5, waited_ns=1_234_500_000) if position else None,
    )  # fmt: skip
    client, _ = make_client(embed=[found])
    response = post(client, path, body)
    assert response.status_code == 200
    assert response.headers.get("X-Queue-Position") == ("3" if position else None)
    assert response.headers.get("X-Queue-Wait") == ("1.234" if position else None)
    assert response.headers.get("X-Queue-Expected-Wait") == ("2.5" if position else None)
    assert response.headers.get("X-Truncated-Tokens") == ("30" if num_truncated else None)


def test_who_did_not_wait_is_told_nothing(make_client: MakeClient) -> None:
    client, _ = make_client()
    response = post(client, "/api/chat", {"model": "demo", "messages": HI})
    assert not [name for name, _ in response.headers if name.startswith("X-Queue")]


TOLD = [
    Progress(phase="load"),
    Progress(phase="queue", position=2, expected_s=4.2),
    Progress(phase="prompt", completed=0, total=40),
    Progress(phase="prompt", completed=32, total=40),
]


@pytest.mark.parametrize(
    ("path", "body", "empty"),
    [
        ("/api/generate", {"prompt": "Hi"}, {"response": ""}),
        ("/api/chat", {"messages": HI}, {"message": {"role": "assistant", "content": ""}}),
    ],
)
def test_progress_comes_before_the_answer(
    make_client: MakeClient, path: str, body: dict[str, Any], empty: dict[str, Any]
) -> None:
    client, engine = make_client(generate=[*TOLD, WAITED, TextDelta("Hi"), DONE])
    response = post(client, path, {"model": "demo", "progress": True, **body})
    found = lines(response)
    (request,) = engine.requests
    assert isinstance(request, GenerateRequest)
    assert request.tells_progress
    assert [line.get("progress") for line in found[:4]] == [
        {"phase": "load"},
        {"phase": "queue", "position": 2, "expected_wait": 4.2},
        {"phase": "prompt", "completed": 0, "total": 40},
        {"phase": "prompt", "completed": 32, "total": 40},
    ]
    for line in found[:4]:
        assert line.items() >= {"model": "demo", "done": False, **empty}.items()
    assert len(found) == 6
    assert not any("progress" in line for line in found[4:])


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_stream_that_tells_progress_begins_with_its_place(
    make_client: MakeClient, path: str, body: dict[str, Any]
) -> None:
    client, _ = make_client(generate=[*TOLD[1:], WAITED, TextDelta("Hi"), DONE])
    response = post(client, path, {"model": "demo", "stream": True, "progress": True, **body})
    assert response.headers["X-Queue-Position"] == "2"
    assert response.headers["X-Queue-Expected-Wait"] == "4.2"
    assert "X-Queue-Wait" not in response.headers, "it is not over"
    assert "X-Ignored-Fields" not in response.headers
    assert '"progress":{"phase":"queue","position":2,"expected_wait":4.2' in response.get_data(as_text=True)


def test_a_pace_that_nobody_knows_is_not_told(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[Progress(phase="queue", position=1), DONE])
    response = post(client, "/api/chat", {"model": "demo", "messages": HI, "progress": True})
    assert response.headers["X-Queue-Position"] == "1"
    assert "X-Queue-Expected-Wait" not in response.headers
    assert lines(response)[0]["progress"] == {"phase": "queue", "position": 1}


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", {"messages": HI}), ("/v1/completions", {"prompt": "x"})]
)
def test_openais_chunks_with_progress_have_no_choices(make_client: MakeClient, path: str, body: dict[str, Any]) -> None:
    client, engine = make_client(
        generate=lambda asked: [*(TOLD if asked.tells_progress else []), TextDelta("Hi"), DONE]
    )
    response = post(client, path, {"model": "demo", "stream": True, "progress": True, "n": 2, **body})
    asked = [request.tells_progress for request in engine.requests if isinstance(request, GenerateRequest)]
    assert asked == [True, False], "the others wait for the first one's prompt"
    *chunks, end = response.get_data(as_text=True).removesuffix("\n\n").split("\n\n")
    assert end == "data: [DONE]"
    found = [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]
    told = [chunk for chunk in found if "progress" in chunk]
    assert found[0] is told[0]
    assert [chunk["progress"]["phase"] for chunk in told] == ["load", "queue", "prompt", "prompt"]
    for chunk in told:
        assert chunk["choices"] == []
        assert chunk.keys() == {*found[-1].keys(), "progress"}


def test_progress_of_a_response_is_in_events_that_keep_it_alive(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[*TOLD, TextDelta("Hi"), DONE])
    response = post(client, "/v1/responses", {"model": "demo", "input": "x", "stream": True, "progress": True})
    found = [json.loads(line[6:]) for line in response.get_data(as_text=True).splitlines() if line.startswith("data: ")]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert [event["type"] for event in found[:7]] == [
        "response.created", "response.in_progress", *["keepalive"] * 4, "response.output_item.added",
    ]  # fmt: skip
    assert found[5] == {
        "type": "keepalive", "sequence_number": 5,
        "progress": {"phase": "prompt", "completed": 32, "total": 40},
    }  # fmt: skip


def test_progress_of_a_message_is_in_pings_before_it(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[*TOLD, TextDelta("Hi"), DONE])
    body = {"model": "demo", "messages": HI, "max_tokens": 9, "stream": True, "progress": True}
    told = post(client, "/v1/messages", body).get_data(as_text=True).split("\n\n")
    assert told[0] == 'event: ping\ndata: {"type":"ping","progress":{"phase":"load"}}'
    assert [event.partition("\n")[0] for event in told[:5]] == [*["event: ping"] * 4, "event: message_start"]


@pytest.mark.parametrize(("path", "body"), [*BODIES[2:], ("/v1/completions", {"prompt": "", "stream": True})])
def test_progress_of_openais_and_anthropics_answers_in_one_piece_is_named_as_ignored(
    make_client: MakeClient, path: str, body: dict[str, Any]
) -> None:
    client, engine = make_client()
    response = post(client, path, {"model": "demo", "progress": True, **body})
    assert response.status_code == 200
    assert response.headers["X-Ignored-Fields"] == "progress"
    assert not any(isinstance(request, GenerateRequest) and request.tells_progress for request in engine.requests)


def test_an_error_after_progress_is_a_line(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[TOLD[0], EngineBusyError("full", queue_depth=1, retry_after_s=7)])
    response = post(client, "/api/chat", {"model": "demo", "messages": HI, "progress": True})
    assert response.status_code == 200
    assert list(lines(response)[-1]) == ["error"]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": HI, "stream": False},
        {"messages": []},
        {"messages": HI, "_debug_render_only": True},
    ],
)
def test_progress_of_an_answer_in_one_piece_is_named_as_ignored(make_client: MakeClient, body: dict[str, Any]) -> None:
    client, engine = make_client()
    response = post(client, "/api/chat", {"model": "demo", "progress": True, **body})
    assert response.status_code == 200
    assert response.headers["X-Ignored-Fields"] == "progress"
    assert not any(isinstance(request, GenerateRequest) and request.tells_progress for request in engine.requests)


@pytest.mark.parametrize("value", ["yes", 1, {}])
def test_progress_is_true_or_false(make_client: MakeClient, value: Any) -> None:
    client, _ = make_client()
    assert post(client, "/api/chat", {"model": "demo", "messages": HI, "progress": value}).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/chat", {"messages": HI}, 503),
        ("/v1/chat/completions", {"messages": HI}, 503),
        ("/v1/messages", {"messages": HI, "max_tokens": 9}, 529),
    ],
)
def test_a_full_queue_says_when_to_come_back(
    make_client: MakeClient, path: str, body: dict[str, Any], status: int
) -> None:
    client, _ = make_client(generate=[EngineBusyError("full", queue_depth=20, retry_after_s=17.4)])
    response = post(client, path, {"model": "demo", **body})
    assert (response.status_code, response.headers["Retry-After"]) == (status, "18")
