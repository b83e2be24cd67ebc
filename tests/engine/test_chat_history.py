"""Earlier turns in the shape that each family's template wants: calls and their results, reasoning, tools, switches."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.engine.chat_format import chat_format
from hugging_llama.engine.chat_messages import template_messages
from hugging_llama.engine.message_style import MessageStyle
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.messages import Message, ToolCall
from tests.engine.checkpoints import byte_tokenizer
from tests.engine.test_prompt import TOOL, Rendering, user

CALL = ToolCall(id="call_1", name="f", arguments={"a": "ü", "b": {"c": 1}})


def rendered(template: str, *messages: Message, **options: Any) -> str:
    rendering = Rendering(byte_tokenizer(template=template, markers=()))
    return rendering.text(rendering.chat(*messages, **options).token_ids)


def called(content: str = "", **fields: Any) -> Message:
    return Message(role="assistant", content=content, tool_calls=(CALL,), **fields)


def test_arguments_are_objects_or_text_as_the_template_wants() -> None:
    head = "{% for m in messages %}{% for call in m.tool_calls %}"
    tail = "{% endfor %}{% endfor %}"
    for written in ("{{ call.function.arguments | tojson }}", "{{ 'args ' + call['function']['arguments'] }}"):
        text = rendered(head + written + tail, user("Hi"), called())
        assert json.loads(text.removeprefix("args ")) == CALL.arguments


def test_a_template_that_fails_anyway_is_an_error() -> None:
    with pytest.raises(InvalidRequestError, match="can't render"):
        rendered("{{ 1 + messages[0].role }}", user("Hi"), called())


THINKS = "{% for m in messages %}[{{ m.content }}]{% endfor %}{{ '</think>' if false }}"


def test_reasoning_of_earlier_turns_is_not_shown_again() -> None:
    old, new = "<think>\nold\n</think>\n\nYes.", "<think>new</think>Now."
    turns = (user("a"), Message(role="assistant", content=old), user("b"), Message(role="assistant", content=new))
    assert rendered(THINKS, *turns) == f"[a][Yes.][b][{new}]"
    assert rendered(THINKS.replace("</think>", "")[:-1] + "}", *turns) == f"[a][{old}][b][{new}]"


def test_a_template_that_removes_it_itself_gets_the_same() -> None:
    own = THINKS.replace("m.content", "m.content.split('</think>')[-1].lstrip()")
    turns = (user("a"), Message(role="assistant", content="hm</think>Yes."), user("b"))
    assert rendered(own, *turns) == rendered(THINKS, *turns) == "[a][Yes.][b]"


@pytest.mark.parametrize(
    "read", ["m.reasoning_content", "m['thinking']", "m.get('reasoning')", "m.thinking if 'thinking' in m"]
)
def test_reasoning_goes_to_templates_by_their_name_for_it(read: str) -> None:
    template = "{% for m in messages %}{{ " + read + " }}{% endfor %}"
    assert rendered(template, Message(role="assistant", content="Yes.", thinking="hm")).rstrip() == "hm"


def test_gpt_oss_gets_reasoning_or_text_beside_a_call() -> None:
    template = (
        "{% for m in messages %}{% if m.content and m.thinking %}{{ raise_exception('both') }}{% endif %}"
        "{{ m.content or m.thinking }}{% endfor %}{{ '<|channel|>' if 0 }}"
    )
    assert rendered(template, called("Say", thinking="hm")) == "Say"
    assert rendered(template, called(thinking="hm")) == "hm"


def test_tools_in_the_system_message() -> None:
    template = (
        "{% for m in messages %}{% if m['role'] == 'system' and 'tools' in m %}"
        "{{ m['content'] + '<|tool|>' + m['tools'] + '<|/tool|>' }}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    text = rendered(template, user("Hi"), tools=(TOOL,))
    tools = text.removeprefix("<|tool|>").removesuffix("<|/tool|>Hi")
    assert json.loads(tools)[0]["name"] == "f"
    assert rendered(template, Message(role="system", content="Be."), user("Hi"), tools=(TOOL,)).startswith(
        "Be.<|tool|>"
    )
    assert rendered(template, user("Hi")) == "Hi"


def test_a_word_in_the_system_text_turns_thinking_off() -> None:
    template = (
        "{% if '/no_think' in messages[0].content %}off {% endif %}{{ messages[0].content }}{{ '</think>' if 0 }}"
    )
    assert rendered(template, user("Hi"), think=False) == "off /no_think"
    assert rendered(template, user("Hi"), think=True) == "Hi"


def test_a_model_with_channels_thinks_briefly_where_it_is_not_to_think() -> None:
    template = "{{ reasoning_effort | default('medium') }}{{ '<|channel|>' if 0 }}"
    efforts = [(None, "medium"), (True, "medium"), (False, "low"), ("high", "high"), ("max", "high")]
    for think, effort in efforts:
        assert rendered(template, user("Hi"), think=think) == effort


NAMES = st.sampled_from(["f", "g", "h"])


@st.composite
def rounds(draw: st.DrawFn) -> list[tuple[Message, list[tuple[int, Message]]]]:
    """Calls and their results in some order, each with the number of its call: by id, by name or by order."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        names = draw(st.lists(NAMES, min_size=1, max_size=4))
        has_ids = draw(st.booleans())
        calls = [
            ToolCall(id=f"call_{number}_{place}" if has_ids else "", name=name, arguments={})
            for place, name in enumerate(names)
        ]
        by = draw(st.sampled_from(["id", "name", "order"] if has_ids else ["name", "order"]))
        order = list(range(len(calls))) if by == "order" else draw(st.permutations(range(len(calls))))
        if by == "name":  # results of one tool come in the order of its calls
            waiting = {name: [place for place, found in enumerate(names) if found == name] for name in names}
            order = [waiting[names[place]].pop(0) for place in order]
        results = [
            (
                place,
                Message(
                    role="tool",
                    content=f"{number}.{place}",
                    tool_call_id=calls[place].id if by == "id" else None,
                    tool_name=calls[place].name if by == "name" else None,
                ),
            )
            for place in order
        ]
        found.append((Message(role="assistant", tool_calls=tuple(calls)), results))
    return found


@given(rounds(), st.booleans())
def test_results_find_their_calls_with_ids_and_without(
    turns: list[tuple[Message, list[tuple[int, Message]]]], short: bool
) -> None:
    messages = [message for asked, results in turns for message in (asked, *(result for _, result in results))]
    rows = iter(template_messages(messages, MessageStyle(short_call_ids=short)))
    for asked, results in turns:
        calls = next(rows)["tool_calls"]
        ids = [call["id"] for call in calls]
        assert len(set(ids)) == len(ids) == len(asked.tool_calls)
        assert all(ids)
        assert not short or all(len(call_id) == 9 and call_id.isalnum() for call_id in ids)
        for place, result in results:
            row = next(rows)
            assert row["content"] == result.content
            assert row["tool_call_id"] == ids[place]
            assert row["name"] == asked.tool_calls[place].name


def test_the_switches_are_read_off_the_template() -> None:
    format = chat_format(byte_tokenizer(template="{% if id|length != 9 %}{% endif %}", markers=()))
    assert format.messages == MessageStyle(short_call_ids=True)
