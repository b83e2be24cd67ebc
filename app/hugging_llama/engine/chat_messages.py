"""Messages and tools in the shape that chat templates expect."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from hugging_llama.engine.message_style import PLAIN_STYLE, MessageStyle
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.messages import Message, Tool, ToolCall

_EFFORTS = {"max": "high"}
"""Levels that templates do not know, and what comes closest."""

_ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def template_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools as JSON schemas of functions."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in tools
    ]


def template_messages(messages: Sequence[Message], style: MessageStyle = PLAIN_STYLE) -> list[dict[str, Any]]:
    """Messages as dicts. Results of tools without an id get that of the call they answer, by name or by order.

    Raises InvalidRequestError for a role that is no word: templates write roles into the control tokens of a turn.
    """
    rows: list[dict[str, Any]] = []
    open_calls: list[ToolCall] = []
    last_user = max((number for number, message in enumerate(messages) if message.role == "user"), default=-1)
    for number, message in enumerate(messages):
        if not _ROLE.fullmatch(message.role):
            raise InvalidRequestError("a message's role must be a word", param="messages")
        row: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.role == "assistant" and number < last_user and style.thought_end:
            row["content"] = _without_thought(message.content, style.thought_end)
        if message.tool_calls:
            open_calls = [_with_id(call, number, place) for place, call in enumerate(message.tool_calls)]
            row["tool_calls"] = [_call_row(call, short=style.short_call_ids) for call in open_calls]
        if message.thinking:
            row |= _thought(message, style)
        if message.role == "tool":
            row |= _result_row(message, open_calls, short=style.short_call_ids)
        rows.append(row)
    return rows


def with_text_arguments(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """`rows` with the arguments of calls as JSON text, as some templates want them; None if they are that already."""
    found = False
    changed = []
    for row in rows:
        calls = []
        for call in row.get("tool_calls", ()):
            function = call["function"]
            if not isinstance(function["arguments"], str):
                found = True
                text = json.dumps(function["arguments"], ensure_ascii=False)
                call = {**call, "function": {**function, "arguments": text}}
            calls.append(call)
        changed.append({**row, "tool_calls": calls} if calls else row)
    return changed if found else None


def with_system(rows: list[dict[str, Any]], *, text: str = "", **values: Any) -> list[dict[str, Any]]:
    """`rows` with more at the end of the system text, and more values beside it; there is one if there was none."""
    system, rest = (rows[0], rows[1:]) if rows and rows[0]["role"] == "system" else ({"role": "system"}, rows)
    content = " ".join(filter(None, (system.get("content"), text)))
    return [{**system, "content": content, **values}, *rest]


def template_variables(think: bool | str | None, *, has_channels: bool = False) -> dict[str, Any]:
    """The variables by which templates are told to think; a template ignores those it does not know.

    A model with channels can't be told not to think, only to do so briefly.
    """
    on = think is not False
    switches: dict[str, Any] = {"enable_thinking": on, "thinking": on}
    if has_channels and not on:
        switches["reasoning_effort"] = "low"
    if isinstance(think, str):
        switches["reasoning_effort"] = _EFFORTS.get(think, think)
    return switches


def last_turn(messages: Sequence[Message]) -> dict[str, str]:
    """What templates of callers may name beside the messages: the last question and the first system text."""
    prompt = next((message.content for message in reversed(messages) if message.role == "user"), "")
    system = next((message.content for message in messages if message.role == "system"), "")
    return {"prompt": prompt, "system": system}


def plain_text(messages: Sequence[Message], *, continues: bool = False) -> str:
    """What is said to a model without a template (prompt.py); `continues`: the answer goes on from the last message."""
    system = [message.content for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    if len(others) == 1 and others[0].role == "user":
        return "\n\n".join([*system, others[0].content])
    lines = [f"{message.role.capitalize()}: {message.content}" for message in messages]
    return "\n\n".join(lines if continues else [*lines, "Assistant:"])


def _without_thought(content: str, end: str) -> str:
    """What an answer said behind its reasoning, which families do not want to see again."""
    return content.rpartition(end)[2].lstrip() if end in content else content


def _thought(message: Message, style: MessageStyle) -> dict[str, str]:
    """By the names that templates have for it; transformers adds another, `thinking`, which is gpt-oss's."""
    found = dict.fromkeys(("reasoning_content", "reasoning"), message.thinking)
    return found | ({"thinking": ""} if style.thought_or_text and message.tool_calls and message.content else {})


def _with_id(call: ToolCall, number: int, place: int) -> ToolCall:
    if call.id:
        return call
    made = f"call_{number:04d}{place:04d}"
    return ToolCall(id=made, name=call.name, arguments=call.arguments, index=call.index)


def _call_row(call: ToolCall, *, short: bool) -> dict[str, Any]:
    return {
        "type": "function",
        "id": _short_id(call.id) if short else call.id,
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _result_row(message: Message, open_calls: list[ToolCall], *, short: bool) -> dict[str, Any]:
    """Which call a tool's message answers; takes it off `open_calls`."""
    matching = [call for call in open_calls if call.id == message.tool_call_id]
    if not matching and message.tool_call_id is None:
        matching = [call for call in open_calls if call.name == message.tool_name] or open_calls[:1]
    call_id, name = message.tool_call_id, message.tool_name
    if matching:
        open_calls.remove(matching[0])
        call_id, name = matching[0].id, name or matching[0].name
    row: dict[str, Any] = {}
    if name:
        row["name"] = name
    if call_id:
        row["tool_call_id"] = _short_id(call_id) if short else call_id
    return row


def _short_id(call_id: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9]{9}", call_id):
        return call_id
    return hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:9]
