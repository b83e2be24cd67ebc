"""Responses that are kept: found again, gone on from, listed, deleted; and what happens where they can't be."""

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai.types.responses import Response as WireResponse
from openai.types.responses import ResponseItemList

from hugging_llama.neutral.events import (
    Finished,
    FinishReason,
    GenerateEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)
from hugging_llama.neutral.messages import Message, ToolCall
from hugging_llama.neutral.requests import ChatPrompt, GenerateRequest
from hugging_llama.testing import ScriptedEngine, UntilClosed
from hugging_llama_config.settings import Settings
from tests.functional.conftest import MakeClient

END = Finished(reason=FinishReason.STOP)


def post(client: FlaskClient, **body: Any) -> Any:
    return client.post("/v1/responses", json={"model": "demo", "input": "Hi", **body})


def messages(engine: ScriptedEngine) -> tuple[Message, ...]:
    found = engine.requests[-1]
    assert isinstance(found, GenerateRequest)
    assert isinstance(found.prompt, ChatPrompt)
    return found.prompt.messages


def numbered(request: GenerateRequest) -> list[GenerateEvent]:
    """Says how many messages it was told."""
    assert isinstance(request.prompt, ChatPrompt)
    return [ThinkingDelta("hm"), TextDelta(f"said {len(request.prompt.messages)}"), END]


def test_a_response_is_found_again(make_client: MakeClient) -> None:
    client, _ = make_client(generate=numbered)
    answer = post(client, metadata={"a": "b"}, include=["reasoning.encrypted_content"]).get_json()
    found = client.get(f"/v1/responses/{answer['id']}")
    assert found.get_json() == answer
    WireResponse.model_validate(found.get_json(), strict=True)
    asked = client.get(f"/v1/responses/{answer['id']}?include=reasoning.encrypted_content")
    assert asked.headers["X-Ignored-Fields"] == "include"
    streamed = post(client, stream=True)
    id = streamed.text.split('"id":"')[1].split('"')[0]
    assert client.get(f"/v1/responses/{id}").get_json()["output"][1]["content"][0]["text"] == "said 1"
    assert client.get(f"/v1/responses/{id}?stream=true").status_code == 400


def test_going_on(make_client: MakeClient) -> None:
    client, engine = make_client(generate=numbered)
    first = post(client, instructions="Be brief.").get_json()
    second = post(client, input="More", previous_response_id=first["id"]).get_json()
    assert second["previous_response_id"] == first["id"]
    assert messages(engine) == (
        Message(role="user", content="Hi"),
        Message(role="assistant", content="said 2", thinking="hm"),
        Message(role="user", content="More"),
    )
    post(client, input="Even more", previous_response_id=second["id"], instructions="Be long.")
    assert [message.content for message in messages(engine)] == [
        "Be long.", "Hi", "said 2", "More", "said 3", "Even more",
    ]  # fmt: skip
    # another way on from the first
    post(client, input="Other", previous_response_id=first["id"])
    assert [message.content for message in messages(engine)] == ["Hi", "said 2", "Other"]


def test_a_call_and_its_result_in_two_requests(make_client: MakeClient) -> None:
    call = ToolCall(id="call_1", name="f", arguments={"a": 1})
    client, engine = make_client(generate=[TextDelta("Look:"), ToolCallDelta(call), END])
    first = post(client, tools=[{"type": "function", "name": "f"}]).get_json()
    result = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
    post(client, input=[result], previous_response_id=first["id"])
    assert messages(engine)[1:] == (
        Message(role="assistant", content="Look:", tool_calls=(call,)),
        Message(role="tool", content="42", tool_call_id="call_1", tool_name="f"),
    )


def test_items_by_their_ids(make_client: MakeClient) -> None:
    client, engine = make_client(generate=numbered)
    first = post(client).get_json()
    said = first["output"][1]["id"]
    more = {"role": "user", "content": "More"}
    reference: list[dict[str, Any]] = [{"type": "item_reference", "id": said}, {"id": said}]
    for item in reference:
        second = post(client, input=[{"role": "user", "content": "Hi"}, item, more]).get_json()
        assert [message.content for message in messages(engine)] == ["Hi", "said 1", "More"]
    assert client.delete(f"/v1/responses/{first['id']}").status_code == 200
    # it is part of the second response as well
    post(client, input=[{"role": "user", "content": "Hi"}, reference[0]], previous_response_id=second["id"])
    assert [message.content for message in messages(engine)] == ["Hi", "said 1", "More", "said 3", "Hi", "said 1"]
    response = post(client, input=[{"type": "item_reference", "id": "msg_nothing"}])
    assert (response.status_code, response.get_json()["error"]["param"]) == (400, "input[0]")


def test_items_of_one_id_stay_two(make_client: MakeClient) -> None:
    client, engine = make_client(generate=numbered)
    items = [{"id": "msg_1", "role": "user", "content": text} for text in ("one", "two")]
    first = post(client, input=items).get_json()
    assert [message.content for message in messages(engine)] == ["one", "two"]
    post(client, input=[items[0] | {"content": "three"}], previous_response_id=first["id"])
    assert [message.content for message in messages(engine)] == ["one", "two", "said 2", "three"]


def test_an_id_that_can_be_guessed_leads_to_nobody_elses_items(make_client: MakeClient) -> None:
    client, engine = make_client(generate=numbered)
    first = post(client, input=[{"id": "msg_1", "role": "user", "content": "secret"}]).get_json()
    reference = {"type": "item_reference", "id": "msg_1"}
    assert post(client, input=[reference]).status_code == 400
    post(client, input=[reference], previous_response_id=first["id"])
    assert [message.content for message in messages(engine)] == ["secret", "said 1", "secret"]


def test_a_short_body_makes_no_long_conversation(make_client: MakeClient) -> None:
    client, engine = make_client(generate=numbered, max_body_bytes=20_000)
    ids = [post(client, input=text * 9_000).get_json()["id"] for text in "abc"]
    said = [client.get(f"/v1/responses/{id}/input_items").get_json()["first_id"] for id in ids]
    references = [{"type": "item_reference", "id": id} for id in said]
    assert post(client, input=references[:2]).status_code == 200
    assert sum(len(message.content) for message in messages(engine)) == 18_000
    for items, words in ((references[:1] * 2, "Duplicate item found with id"), (references, "at most 20000 bytes")):
        error = post(client, input=items).get_json()["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", "input")
        assert words in error["message"]


def test_a_conversation_that_no_body_could_hold_goes_no_further(make_client: MakeClient) -> None:
    client, _ = make_client(generate=numbered, max_body_bytes=20_000)
    id = None
    for _ in range(3):
        response = post(client, input="x" * 9_000, previous_response_id=id)
        assert response.status_code == 200
        id = response.get_json()["id"]
    error = post(client, input="x", previous_response_id=id).get_json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "previous_response_id")
    assert "at most 20000 bytes" in error["message"]
    assert client.get(f"/v1/responses/{id}").status_code == 200


def test_what_a_response_was_an_answer_to(make_client: MakeClient) -> None:
    client, _ = make_client(generate=numbered)
    first = post(client, input=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]).get_json()
    second = post(client, input="c", previous_response_id=first["id"]).get_json()
    path = f"/v1/responses/{second['id']}/input_items"
    whole = client.get(f"{path}?order=asc").get_json()
    ResponseItemList.model_validate(whole, strict=True)
    texts = [item["content"][0]["text"] for item in whole["data"]]
    assert texts == ["a", "b", "hm", "said 2", "c"]
    assert (whole["object"], whole["has_more"]) == ("list", False)
    ids = [item["id"] for item in whole["data"]]
    assert (whole["first_id"], whole["last_id"]) == (ids[0], ids[-1])
    assert [item["id"] for item in client.get(path).get_json()["data"]] == ids[::-1]
    page = client.get(f"{path}?order=asc&limit=2&after={ids[1]}").get_json()
    assert [item["id"] for item in page["data"]] == ids[2:4]
    assert page["has_more"]
    for query in ("limit=0", "limit=101", "limit=x", "limit=", "order=up", "after=msg_nothing", "limit=²"):
        assert client.get(f"{path}?{query}").status_code == 400
    assert client.get("/v1/responses/resp_nothing/input_items").status_code == 404


def test_deleting(make_client: MakeClient) -> None:
    client, engine = make_client(generate=numbered)
    first = post(client).get_json()
    second = post(client, input="More", previous_response_id=first["id"]).get_json()
    assert client.delete(f"/v1/responses/{first['id']}").get_json() == {
        "id": first["id"], "object": "response", "deleted": True,
    }  # fmt: skip
    assert client.get(f"/v1/responses/{first['id']}").status_code == 404
    assert client.delete(f"/v1/responses/{first['id']}").status_code == 404
    post(client, input="Last", previous_response_id=second["id"])
    assert [message.content for message in messages(engine)] == ["Hi", "said 1", "More", "said 3", "Last"]


def test_what_is_not_there(make_client: MakeClient) -> None:
    client, _ = make_client()
    for response in (client.get("/v1/responses/resp_x"), client.post("/v1/responses/resp_x/cancel")):
        assert response.status_code == 404
        assert response.get_json()["error"] == {
            "message": "Response with id 'resp_x' not found.",
            "type": "not_found_error",
            "param": None,
            "code": "response_not_found",
        }
    response = post(client, previous_response_id="resp_x")
    assert response.status_code == 400
    assert response.get_json()["error"] == {
        "message": "Previous response with id 'resp_x' not found.",
        "type": "invalid_request_error",
        "param": "previous_response_id",
        "code": "previous_response_not_found",
    }
    id = post(client).get_json()["id"]
    assert client.post(f"/v1/responses/{id}/cancel").status_code == 400


def test_what_is_not_to_be_kept_is_not(make_client: MakeClient, settings: Settings) -> None:
    client, _ = make_client()
    answer = post(client, store=False).get_json()
    assert answer["store"] is False
    assert client.get(f"/v1/responses/{answer['id']}").status_code == 404
    assert not (Path(settings.home) / "responses.db").exists()


def test_a_response_whose_caller_left_is_not_kept(make_client: MakeClient, settings: Settings) -> None:
    client, engine = make_client(generate=[TextDelta("a"), UntilClosed()])
    response = client.post("/v1/responses", json={"model": "demo", "input": "Hi", "stream": True}, buffered=False)
    chunk: Any = next(iter(response.response))
    id = json.loads(chunk.decode().split("data: ")[1].split("\n")[0])["response"]["id"]
    response.close()
    assert engine.streams[0].is_closed
    assert client.get(f"/v1/responses/{id}").status_code == 404
    assert not (Path(settings.home) / "responses.db").exists()


def test_a_server_that_keeps_nothing_says_so(make_client: MakeClient, settings: Settings) -> None:
    client, _ = make_client(store_responses=False)
    answer = post(client, store=True).get_json()
    assert answer["store"] is False
    assert client.get(f"/v1/responses/{answer['id']}").status_code == 404
    response = post(client, previous_response_id=answer["id"])
    assert response.status_code == 400
    assert "HUGGING_LLAMA_STORE_RESPONSES" in response.get_json()["error"]["message"]
    assert not (Path(settings.home) / "responses.db").exists()


def test_a_disk_that_refuses_breaks_no_answer(
    make_client: MakeClient, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = make_client(generate=numbered)
    path = Path(settings.home) / "responses.db"
    path.mkdir(parents=True)
    answer = post(client).get_json()
    assert (answer["status"], answer["store"]) == ("completed", False)
    last = post(client, stream=True).text.split("data: ")[-1]
    assert '"store":false' in last
    assert "is not kept" in caplog.text
    for response in (client.get("/v1/responses/resp_x"), post(client, previous_response_id="resp_x")):
        error = response.get_json()["error"]
        assert (response.status_code, error["code"]) == (503, "storage")
        assert str(settings.home) not in error["message"]
    path.rmdir()
    answer = post(client).get_json()
    assert answer["store"] is True
    assert client.get(f"/v1/responses/{answer['id']}").status_code == 200


def test_a_conversation_that_is_too_long_to_keep_is_answered(make_client: MakeClient) -> None:
    client, _ = make_client(generate=numbered, stored_responses_bytes=20_000)
    first = post(client, input="x" * 15_000).get_json()
    assert first["store"] is True
    second = post(client, input="y" * 15_000, previous_response_id=first["id"]).get_json()
    assert (second["status"], second["store"]) == ("completed", False)
    assert client.get(f"/v1/responses/{first['id']}").status_code == 200
