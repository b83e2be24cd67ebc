"""Whatever is sent to the Responses API, the answer is an error in OpenAI's shape or an answer, never a 500."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hugging_llama.dialects.openai.responses.schema import ResponsesSchema
from hugging_llama.dialects.openai.sampling import SamplingSchema
from tests.functional.conftest import MakeClient

WORDS = st.sampled_from(
    [
        "message", "function_call", "function_call_output", "custom_tool_call", "reasoning", "item_reference",
        "web_search", "function", "custom", "namespace", "input_text", "output_text", "refusal", "auto",
        "required", "allowed_tools", "user", "assistant", "resp_x", "low", "grammar", "lark", "", "\x00", "x" * 300,
    ]
)  # fmt: skip
KEYS = st.sampled_from(
    [
        "type", "role", "content", "text", "id", "call_id", "name", "namespace", "arguments", "output", "input",
        "summary", "encrypted_content", "tools", "parameters", "format", "schema", "mode", "effort", "syntax",
        "definition", "x",
    ]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.just(10**40), st.floats(allow_nan=False, allow_infinity=False),
    WORDS, st.text(max_size=5),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)
TYPES = st.sampled_from(
    ["message", "function_call", "function_call_output", "custom_tool_call", "reasoning", "item_reference"]
)
ITEMS = st.lists(
    st.one_of(
        VALUES, st.builds(lambda kind, more: {**more, "type": kind}, TYPES, st.dictionaries(KEYS, VALUES, max_size=5))
    ),
    max_size=3,
)
TOOLS = st.lists(
    st.builds(
        lambda kind, more: {"name": "f", **more, "type": kind},
        st.sampled_from(["function", "custom", "namespace", "web_search", "mcp"]),
        st.dictionaries(KEYS, VALUES, max_size=4),
    ),
    max_size=2,
)
# those that chats have too are for their tests
FIELDS = sorted(set(ResponsesSchema().fields) - set(SamplingSchema().fields))
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=2) | st.dictionaries(
    st.sampled_from(sorted(ResponsesSchema().fields)), VALUES, max_size=1
)


def _check(response: Any) -> None:
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        assert set(response.get_json()["error"]) == {"message", "type", "param", "code"}


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(body=BODIES, items=ITEMS | st.none(), tools=TOOLS | st.none())
def test_any_body(make_client: MakeClient, body: dict[str, Any], items: Any, tools: Any) -> None:
    client, _ = make_client()
    whole: dict[str, Any] = {"model": "demo", "input": "Hi", **body}
    if items is not None:
        whole["input"] = items
    if tools is not None:
        whole["tools"] = tools
    _check(client.post("/v1/responses", json=whole))


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "5", '{"model": "demo"}', '{"model": "demo", "input": "\\ud800"}',
        '{"model": "demo", "input": "Hi", "previous_response_id": "\\ud800"}',
        '{"model": "demo", "input": "Hi", "metadata": {"\\ud800": "\\udfff"}}',
        '{"model": "demo", "input": "Hi", "seed": 1' + "0" * 5000 + "}",
        '{"model": "demo", "input": "Hi", "tools": [{"type": "function", "name": "f", "parameters": {"a": 1'
        + "0" * 5000 + "}}]}",
        '{"model": "demo", "input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\\"a\\": 1'
        + "0" * 5000 + '}"}]}',
        '{"model": "demo", "input": ' + "[" * 3000 + "]" * 3000 + "}",
        '{"model": "demo", "input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "'
        + "[" * 100_000 + '"}]}',
    ],
)  # fmt: skip
def test_odd_texts(make_client: MakeClient, text: str) -> None:
    client, _ = make_client()
    _check(client.post("/v1/responses", data=text))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    id=st.text(min_size=1, max_size=20), query=st.dictionaries(st.sampled_from(["limit", "order", "after"]), st.text())
)
def test_any_id(make_client: MakeClient, id: str, query: dict[str, str]) -> None:
    client, _ = make_client()
    kept = client.post("/v1/responses", json={"model": "demo", "input": "Hi"}).get_json()["id"]
    assert client.get(f"/v1/responses/{kept}/input_items", query_string=query).status_code in (200, 400)
    _check(client.post("/v1/responses", json={"model": "demo", "input": "Hi", "previous_response_id": id}))
    if "/" not in id and id not in (".", ".."):
        for response in (client.get("/v1/responses/" + id), client.delete("/v1/responses/" + id)):
            assert response.status_code in (200, 404, 405, 308)
