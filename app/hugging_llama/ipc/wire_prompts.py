"""Prompts and tool calls as they are sent: msgspec structs, and to them and back from neutral types."""

import json
from typing import Any

from msgspec import Struct

from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.messages import Message, Tool, ToolCall
from hugging_llama.neutral.requests import ChatPrompt, InsertPrompt, Prompt, TextPrompt, TokensPrompt, ToolChoice

# what text without an encoding, numbers above 64 bits and endless nesting raise
UNENCODABLE = (UnicodeEncodeError, OverflowError, RecursionError, TypeError, ValueError)


class WireToolCall(Struct, array_like=True, frozen=True):
    """A ToolCall; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str
    index: int


class WireTool(Struct, array_like=True, frozen=True):
    """A Tool; `parameters` is JSON text."""

    name: str
    description: str
    parameters: str


class WireMessage(Struct, array_like=True, frozen=True):
    """A Message."""

    role: str
    content: str
    thinking: str
    tool_calls: tuple[WireToolCall, ...]
    tool_name: str | None
    tool_call_id: str | None


class WireChat(Struct, array_like=True, frozen=True, tag=0):
    """A ChatPrompt."""

    messages: tuple[WireMessage, ...]
    tools: tuple[WireTool, ...]
    tool_choice: ToolChoice
    think: bool | str | None
    context: tuple[int, ...]
    template: str
    continues: bool


class WireText(Struct, array_like=True, frozen=True, tag=1):
    """A TextPrompt."""

    text: str


class WireInsert(Struct, array_like=True, frozen=True, tag=2):
    """An InsertPrompt."""

    prefix: str
    suffix: str
    template: str


class WireTokens(Struct, array_like=True, frozen=True, tag=3):
    """A TokensPrompt."""

    token_ids: tuple[int, ...]


WirePrompt = WireChat | WireText | WireInsert | WireTokens


def encodable_prompt(prompt: Prompt) -> WirePrompt:
    """Raises InvalidRequestError for schemas or arguments that are not JSON."""
    try:
        return _wire(prompt)
    except UNENCODABLE as error:
        raise InvalidRequestError(f"the request can't be encoded: {error}") from None


def _wire(prompt: Prompt) -> WirePrompt:
    if isinstance(prompt, TextPrompt):
        return WireText(prompt.text)
    if isinstance(prompt, TokensPrompt):
        return WireTokens(prompt.token_ids)
    if isinstance(prompt, InsertPrompt):
        return WireInsert(prompt.prefix, prompt.suffix, prompt.template)
    return WireChat(
        messages=tuple(
            WireMessage(
                role=message.role,
                content=message.content,
                thinking=message.thinking,
                tool_calls=tuple(map(wire_call, message.tool_calls)),
                tool_name=message.tool_name,
                tool_call_id=message.tool_call_id,
            )
            for message in prompt.messages
        ),
        tools=tuple(WireTool(tool.name, tool.description, json.dumps(tool.parameters)) for tool in prompt.tools),
        tool_choice=prompt.tool_choice,
        think=prompt.think,
        context=prompt.context,
        template=prompt.template,
        continues=prompt.continues,
    )


def neutral_prompt(prompt: WirePrompt) -> Prompt:
    """Raises ValueError or RecursionError for JSON text that is none."""
    if isinstance(prompt, WireText):
        return TextPrompt(text=prompt.text)
    if isinstance(prompt, WireTokens):
        return TokensPrompt(token_ids=prompt.token_ids)
    if isinstance(prompt, WireInsert):
        return InsertPrompt(prefix=prompt.prefix, suffix=prompt.suffix, template=prompt.template)
    return ChatPrompt(
        messages=tuple(
            Message(
                role=message.role,
                content=message.content,
                thinking=message.thinking,
                tool_calls=tuple(map(neutral_call, message.tool_calls)),
                tool_name=message.tool_name,
                tool_call_id=message.tool_call_id,
            )
            for message in prompt.messages
        ),
        tools=tuple(
            Tool(name=tool.name, description=tool.description, parameters=json_object(tool.parameters))
            for tool in prompt.tools
        ),
        tool_choice=prompt.tool_choice,
        think=prompt.think,
        context=prompt.context,
        template=prompt.template,
        continues=prompt.continues,
    )


def wire_call(call: ToolCall) -> WireToolCall:
    """Raises one of UNENCODABLE for arguments that are not JSON."""
    return WireToolCall(call.id, call.name, json.dumps(call.arguments), call.index)


def neutral_call(call: WireToolCall) -> ToolCall:
    """Raises ValueError or RecursionError for arguments that are none."""
    return ToolCall(id=call.id, name=call.name, arguments=json_object(call.arguments), index=call.index)


def json_object(text: str) -> dict[str, Any]:
    """Raises ValueError or RecursionError for anything else."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("a JSON object was expected")
    return value
