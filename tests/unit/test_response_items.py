"""Items of the Responses API: one shape, and the messages that they become."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.dialects.openai.responses.conversation import parse_conversation
from hugging_llama.dialects.openai.responses.items import ItemReader
from hugging_llama.dialects.openai.responses.sealed import seal, unseal
from hugging_llama.dialects.openai.responses.tools import parse_tool_choice, parse_tools
from hugging_llama.errors import InvalidRequestError, UnsupportedCapabilityError
from hugging_llama.neutral.messages import Message, ToolCall
from hugging_llama.neutral.requests import ToolChoice


def messages(value: Any, instructions: str = "") -> tuple[Message, ...]:
    return parse_conversation(instructions, ItemReader("demo").read(value))


def call(call_id: str, name: str = "f", arguments: str = '{"a": 1}', **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **more}


def output(call_id: str, value: Any = "42", kind: str = "function_call_output") -> dict[str, Any]:
    return {"type": kind, "call_id": call_id, "output": value}


def thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_a_text_is_a_message_of_the_user() -> None:
    (item,) = ItemReader("demo").read("Hi")
    assert item.pop("id").startswith("msg_")
    assert item == {
        "type": "message", "status": "completed", "role": "user", "content": [{"type": "input_text", "text": "Hi"}],
    }  # fmt: skip
    assert messages("Hi", "Be brief.") == (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Hi"),
    )


def test_one_turn_is_one_message() -> None:
    items = [
        {"role": "developer", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        user("?"),
        thought("hm"),
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Look:"}]},
        call("c1"),
        call("c2", "g", "{}", namespace="ns"),
        output("c1"),
        output("c2", [{"type": "input_text", "text": "x"}, {"type": "input_text", "text": "y"}]),
        thought("so"),
        call("c3"),
        output("c3"),
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        user("!"),
    ]
    assert messages(items, "Be brief.") == (
        Message(role="system", content="Be brief.\n\na\nb"),
        Message(role="user", content="?"),
        Message(
            role="assistant",
            content="Look:",
            thinking="hm",
            tool_calls=(
                ToolCall(id="c1", name="f", arguments={"a": 1}),
                ToolCall(id="c2", name="ns.g", arguments={}, index=1),
            ),
        ),
        Message(role="tool", content="42", tool_call_id="c1", tool_name="f"),
        Message(role="tool", content="x\ny", tool_call_id="c2", tool_name="ns.g"),
        Message(role="assistant", thinking="so", tool_calls=(ToolCall(id="c3", name="f", arguments={"a": 1}),)),
        Message(role="tool", content="42", tool_call_id="c3", tool_name="f"),
        Message(role="assistant", content="no"),
        Message(role="user", content="!"),
    )


def test_custom_tools_and_their_outputs() -> None:
    custom = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin"}
    _, asked, told = messages([user("?"), custom, output("c", "done", "custom_tool_call_output")])
    assert asked.tool_calls == (ToolCall(id="c", name="patch", arguments={"input": "*** Begin"}),)
    assert (told.role, told.content, told.tool_name) == ("tool", "done", "patch")


def test_reasoning_comes_back_by_any_of_its_texts() -> None:
    answer = {"role": "assistant", "content": "ok"}
    sealed = {"type": "reasoning", "summary": [], "encrypted_content": seal("hm ü")}
    summary = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm ü"}], "encrypted_content": None}
    for item in (thought("hm ü"), sealed, summary, {**summary, "content": None}, {**sealed, "content": []}):
        assert messages([user("?"), item, answer])[1].thinking == "hm ü"
    assert messages([user("?"), thought("a"), thought("b"), answer])[1].thinking == "a\nb"
    assert messages([user("?"), thought("left"), user("!")]) == (
        Message(role="user", content="?"),
        Message(role="user", content="!"),
    )


def test_a_turn_of_many_parts_is_joined_once() -> None:
    """Twenty thousand of a kilobyte each are twenty megabytes; joined one by one they would be copied for minutes."""
    number, text = 20_000, "x" * 1000
    reader = ItemReader("demo")
    system = reader.read([{"role": "system", "content": text}]) * number
    turn = [part for index in range(number) for part in reader.read([thought(text), call(f"c{index}")])]
    first, second = parse_conversation("", system + turn)
    assert len(first.content) == number * (len(text) + 2) - 2
    assert len(second.thinking) == number * (len(text) + 1) - 1
    assert [made.index for made in second.tool_calls] == list(range(number))


def test_what_another_server_has_encrypted_is_left_out_and_told() -> None:
    reader = ItemReader("demo")
    items = reader.read([{"type": "reasoning", "summary": [], "encrypted_content": "gAAAAABo"}, user("?")])
    assert reader.ignored == {"input.encrypted_content"}
    assert len(parse_conversation("", items)) == 1


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_sealed_can_be_read_again(text: str) -> None:
    assert unseal(seal(text)) == text


@pytest.mark.parametrize("text", ["", "x", "hl1.", "hl1.ü", "hl1.a", "hl1.____", "hl1.////"])
def test_what_is_no_seal_of_ours_is_none(text: str) -> None:
    assert unseal(text) in (None, "")


def test_traces_of_another_servers_tools_are_left_out_and_told() -> None:
    reader = ItemReader("demo")
    assert len(reader.read([{"type": "web_search_call", "id": "ws_1", "status": "completed"}, user("?")])) == 1
    assert reader.ignored == {"input.web_search_call"}


@pytest.mark.parametrize(
    "value",
    [
        [{"role": "user", "content": "x"}] * 10_001,
        None, 5, {}, [5], [{}], [{"type": "nothing"}], [{"type": ["message"]}], [{"role": "user"}],
        [{"role": "robot", "content": "x"}], [{"role": ["user"], "content": "x"}], [{"role": "user", "content": 5}],
        [{"role": "user", "content": [5]}], [{"role": "user", "content": [{"type": "input_text"}]}],
        [{"role": "user", "content": [{"type": [], "text": "x"}]}], [{"type": "function_call"}], [call("c", "f", "[]")],
        [call("c", "f", "{")], [call("c", "f", {})], [output("c", 5)], [output("c", [{"type": "output"}])],  # type: ignore[arg-type]
        [{"type": "function_call_output", "output": "x"}], [{"type": "reasoning", "summary": 5}],
        [{"type": "reasoning", "summary": [5]}], [{"type": "item_reference"}], [{"type": "compaction"}], [],
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError):
        messages(value)


@pytest.mark.parametrize(
    ("kind", "word"), [("input_image", "vision"), ("input_file", "file"), ("input_audio", "audio")]
)
def test_pictures_and_files_are_refused(kind: str, word: str) -> None:
    for value in ([{"role": "user", "content": [{"type": kind}]}], [call("c"), output("c", [{"type": kind}])]):
        with pytest.raises(UnsupportedCapabilityError) as caught:
            messages(value)
        assert caught.value.facts["capabilities"] == [word]


F = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True, "description": "d"}
PATCH = {
    "type": "custom",
    "name": "patch",
    "description": "d",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"},
}
SPACE = {"type": "namespace", "name": "ns", "description": "", "tools": [F, {"type": "custom", "name": "t"}]}


def test_tools_and_what_their_calls_are_called() -> None:
    found = parse_tools([F, PATCH, SPACE])
    assert [tool.name for tool in found.tools] == ["f", "patch", "ns.f", "ns.t"]
    assert found.call_name("f") == ("function_call", "f", None)
    assert found.call_name("ns.t") == ("custom_tool_call", "t", "ns")
    assert found.call_name("unheard") == ("function_call", "unheard", None)
    assert found.tools[1].parameters["required"] == ["input"]
    assert found.tools[1].description == "d\n\nThe input is a text of this form (lark):\nstart: /x/"
    assert found.ignored == {"tools.format"}
    assert found.has_strict


def test_tools_that_agents_offer_to_everybody_are_left_out_and_told() -> None:
    kinds = ["web_search", "web_search_preview_2025_03_11", "local_shell", "image_generation", "tool_search"]
    found = parse_tools([{"type": kind} for kind in kinds] + [F])
    assert [tool.name for tool in found.tools] == ["f"]
    assert [tool["type"] for tool in found.shown] == ["function"]
    assert found.ignored == {f"tools.{kind}" for kind in kinds}


@pytest.mark.parametrize(
    "value",
    [
        5, {}, [5], [{}], [{"type": 5}], [{"type": "function"}], [{"type": "function", "name": ""}],
        [{"type": "function", "name": "f", "parameters": [1]}], [{"type": "namespace", "name": "n"}],
        [{"type": "namespace", "name": "n", "tools": [5]}], [{"type": "custom", "name": "c", "format": "lark"}],
        [{"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "gbnf", "definition": ""}}],
        [{"type": "namespace", "name": "n", "tools": [{"type": "web_search", "name": "x"}]}],
        [{"type": "file_search"}], [{"type": "mcp"}], [{"type": "computer_use_preview"}],
        [{"type": "code_interpreter"}],
    ],
)  # fmt: skip
def test_tools_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError):
        parse_tools(value)


@pytest.mark.parametrize(
    ("value", "choice", "names"),
    [
        (None, ToolChoice(), ["f", "patch", "ns.f", "ns.t"]),
        ("none", ToolChoice(mode="none"), ["f", "patch", "ns.f", "ns.t"]),
        ("required", ToolChoice(mode="required"), ["f", "patch", "ns.f", "ns.t"]),
        ({"type": "function", "name": "f"}, ToolChoice(mode="required", name="f"), ["f", "patch", "ns.f", "ns.t"]),
        (
            {"type": "function", "name": "f", "namespace": "ns"},
            ToolChoice(mode="required", name="ns.f"),
            ["f", "patch", "ns.f", "ns.t"],
        ),
        (
            {"type": "custom", "name": "patch"},
            ToolChoice(mode="required", name="patch"),
            ["f", "patch", "ns.f", "ns.t"],
        ),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "ns.f"}]},
            ToolChoice(mode="required"),
            ["ns.f"],
        ),
    ],
)
def test_the_choice_of_a_tool(value: Any, choice: ToolChoice, names: list[str]) -> None:
    tools, found = parse_tool_choice(value, parse_tools([F, PATCH, SPACE]), parallel=True)
    assert found == choice
    assert [tool.name for tool in tools] == names


@pytest.mark.parametrize(
    "value",
    [
        "any", 5, [], {}, {"type": "function"}, {"type": "function", "name": "g"}, {"type": "web_search_preview"},
        {"type": "allowed_tools"}, {"type": "allowed_tools", "mode": "none", "tools": []},
        {"type": "allowed_tools", "mode": "required", "tools": []}, {"type": "allowed_tools", "mode": [], "tools": []},
    ],
)  # fmt: skip
def test_a_choice_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError):
        parse_tool_choice(value, parse_tools([F]), parallel=True)
    with pytest.raises(InvalidRequestError):
        parse_tool_choice("required", parse_tools([{"type": "web_search"}]), parallel=True)
