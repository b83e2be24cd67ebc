"""Messages and tools of a chat request, wire to neutral."""

from collections.abc import Mapping
from typing import Any

from hugging_llama.dialects.body_values import ValueBudget
from hugging_llama.errors import InvalidRequestError, UnsupportedCapabilityError
from hugging_llama.neutral.messages import Message, Tool, ToolCall
from hugging_llama.neutral.requests import ToolChoice

_ROLES = {"developer": "system", "function": "tool"}
_INSTEAD = ("tool_calls", "function_call", "reasoning", "reasoning_content", "reasoning_details", "refusal", "audio")
"""What a turn may have in place of a content."""


def parse_messages(value: Any, model: str) -> tuple[Message, ...]:
    """Raises InvalidRequestError; UnsupportedCapabilityError for pictures and sound."""
    if not isinstance(value, list) or not value:
        raise InvalidRequestError("[] is too short - 'messages'", param="messages")
    messages: list[Message] = []
    names: dict[str, str] = {}
    budget = ValueBudget()
    for item in value:
        message = _message(item, model, names, budget)
        names.update({call.id: call.name for call in reversed(message.tool_calls)})
        messages.append(message)
    return tuple(messages)


def _message(item: Any, model: str, names: Mapping[str, str], budget: ValueBudget) -> Message:
    if not isinstance(item, dict) or not isinstance(item.get("role"), str):
        raise InvalidRequestError("invalid message format", param="messages")
    calls = _calls(item, budget)
    texts = [_text(item["content"], model)] if item.get("content") is not None else []
    if not texts and all(item.get(name) is None for name in _INSTEAD):
        raise InvalidRequestError("invalid message content type: <nil>", param="messages")
    if isinstance(refusal := item.get("refusal"), str) and refusal:
        texts.append(refusal)
    thinking = item.get("reasoning") or item.get("reasoning_content") or ""
    call_id = item.get("tool_call_id")
    return Message(
        role=_ROLES.get(role := str(item["role"]), role),
        content="\n".join(texts),
        thinking=thinking if isinstance(thinking, str) else "",
        tool_calls=calls,
        tool_call_id=call_id if isinstance(call_id, str) else None,
        tool_name=_tool_name(item, names),
    )


def _text(content: Any, model: str) -> str:
    """One text; of a list of parts the texts, each on a line of its own."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequestError("invalid message format", param="messages")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "refusal") and isinstance(part.get(kind), str):
            texts.append(part[kind])
        elif kind in ("image_url", "input_audio", "file"):
            raise UnsupportedCapabilityError(model, ["vision" if kind == "image_url" else kind])
        else:
            raise InvalidRequestError("invalid message format", param="messages")
    return "\n".join(texts)


def _calls(item: Mapping[str, Any], budget: ValueBudget) -> tuple[ToolCall, ...]:
    """Those of a message, or its `function_call`, which is what tools were before."""
    given = item.get("tool_calls") or []
    if not isinstance(given, list):
        raise InvalidRequestError("invalid tool call format", param="messages")
    if not given and (old := item.get("function_call")):
        given = [{"function": old}]
    return tuple(_call(call, index, budget) for index, call in enumerate(given))


def _call(value: Any, index: int, budget: ValueBudget) -> ToolCall:
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequestError("invalid tool call format", param="messages")
    arguments = function.get("arguments") or "{}"
    parsed = budget.read_object(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(parsed, dict):
        raise InvalidRequestError("invalid tool call arguments", param="messages")
    return ToolCall(id=str(value.get("id") or ""), name=function["name"], arguments=parsed, index=index)


def _tool_name(item: Mapping[str, Any], names: Mapping[str, str]) -> str | None:
    """The tool whose result this is: by its name, or by the id of the call, as `names` has it."""
    if item["role"] not in ("tool", "function"):
        return None
    if isinstance(item.get("name"), str):
        return str(item["name"])
    call_id = item.get("tool_call_id")
    return names.get(call_id) if isinstance(call_id, str) else None


def parse_tools(value: Any) -> tuple[Tool, ...]:
    """Raises InvalidRequestError."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidRequestError("Invalid type for 'tools': expected array.", param="tools")
    return tuple(_tool(item) for item in value)


def _tool(item: Any) -> Tool:
    function = item.get("function") if isinstance(item, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise InvalidRequestError("a tool must be {'type': 'function', 'function': {'name': …}}", param="tools")
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequestError("the parameters of a tool must be a JSON Schema", param="tools")
    return Tool(name=function["name"], description=str(function.get("description") or ""), parameters=parameters)


def has_strict(value: Any) -> bool:
    """Whether a tool is asked to be called by its schema and no other way."""
    functions = [item.get("function") for item in value or () if isinstance(item, dict)]
    return any(isinstance(function, dict) and function.get("strict") is True for function in functions)


def parse_tool_choice(value: Any, tools: tuple[Tool, ...], *, parallel: bool) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that may be called, and whether one must be. Raises InvalidRequestError."""
    if value in (None, "auto", "none", "required"):
        if value == "required" and not tools:
            raise InvalidRequestError("'tool_choice' is only allowed when 'tools' are specified", param="tool_choice")
        return tools, ToolChoice(mode=value or "auto", parallel=parallel)
    if isinstance(value, dict) and value.get("type") == "allowed_tools":
        return _allowed(value.get("allowed_tools", value), tools, parallel=parallel)
    function = value.get("function") if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or name not in {tool.name for tool in tools}:
        raise InvalidRequestError(
            "'tool_choice' must be 'auto', 'none', 'required', or name one of the tools", param="tool_choice"
        )
    return tools, ToolChoice(mode="required", name=name, parallel=parallel)


def _allowed(value: Any, tools: tuple[Tool, ...], *, parallel: bool) -> tuple[tuple[Tool, ...], ToolChoice]:
    listed = value.get("tools") if isinstance(value, dict) else None
    mode = value.get("mode", "auto") if isinstance(value, dict) else None
    if not isinstance(listed, list) or mode not in ("auto", "required"):
        raise InvalidRequestError("'tool_choice.allowed_tools' needs a mode and tools", param="tool_choice")
    names = {_tool(item).name for item in listed}
    return tuple(tool for tool in tools if tool.name in names), ToolChoice(mode=mode, parallel=parallel)
