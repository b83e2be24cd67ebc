"""Messages, tools and their choice, wire to neutral. Raises InvalidRequestError for what is malformed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hugging_llama.dialects.anthropic.known import SKIPPED
from hugging_llama.errors import InvalidRequestError, UnsupportedCapabilityError
from hugging_llama.neutral.messages import Message, Tool, ToolCall
from hugging_llama.neutral.requests import ToolChoice

_WRITTEN = ("document", "search_result")
"""Blocks that hold text, or refer to it."""


def parse_system(value: Any) -> tuple[Message, ...]:
    """A text, or text blocks."""
    if value in (None, "", []):
        return ()
    return (Message(role="system", content=_texts(value, "system", "")),)


def parse_messages(value: Any, model: str) -> tuple[Message, ...]:
    """Also raises UnsupportedCapabilityError for pictures and documents that are files."""
    if not isinstance(value, list) or not value:
        raise InvalidRequestError("messages is required", param="messages")
    messages: list[Message] = []
    names: dict[str, str] = {}
    for item in value:
        if not isinstance(item, dict) or item.get("role") not in ("user", "assistant", "system"):
            raise InvalidRequestError("messages: each needs the role 'user' or 'assistant'", param="messages")
        for message in _parsed(item["role"], item.get("content"), model, names):
            names.update({call.id: call.name for call in message.tool_calls})
            messages.append(message)
    return tuple(messages)


def _parsed(role: str, content: Any, model: str, names: Mapping[str, str]) -> Iterator[Message]:
    """The results of tools come before the text of the same turn."""
    if isinstance(content, str):
        yield Message(role=role, content=content)
        return
    if not isinstance(content, list):
        raise InvalidRequestError("messages: content must be a string or a list of blocks", param="messages")
    turn = _Turn()
    for block in content:
        if isinstance(block, dict) and block.get("type") == "tool_result":
            yield _tool_result(block, model, names)
        else:
            turn.add(block, model)
    if turn.has_any or not content or len(content) == turn.num_skipped:
        yield Message(
            role=role,
            content="\n".join(turn.texts),
            thinking="\n".join(turn.thoughts),
            tool_calls=tuple(turn.calls),
        )


@dataclass(slots=True)
class _Turn:
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    num_skipped: int = 0

    @property
    def has_any(self) -> bool:
        return bool(self.texts or self.thoughts or self.calls)

    def add(self, block: Any, model: str) -> None:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text" and isinstance(block.get("text"), str):
            self.texts.append(block["text"])
        elif kind == "thinking" and isinstance(block.get("thinking"), str):
            self.thoughts.append(block["thinking"])
        elif kind == "tool_use":
            self.calls.append(_tool_use(block, len(self.calls)))
        elif kind == "image":
            raise UnsupportedCapabilityError(model, ["vision"])
        elif kind in _WRITTEN:
            self.texts.append(_written(block, model))
        elif kind in SKIPPED:
            self.num_skipped += 1
        else:
            raise InvalidRequestError(f"messages: unknown block type {str(kind)[:40]!r}", param="messages")


def _written(block: Mapping[str, Any], model: str) -> str:
    """The text of a document or of a search result, below what it is called. Files are no text."""
    if block["type"] == "search_result":
        return _lines(block, ("title", "source"), _texts(block.get("content"), "search_result", model))
    given = block.get("source")
    source = given if isinstance(given, dict) else {}
    if source.get("type") == "text" and isinstance(source.get("data"), str):
        return _lines(block, ("title", "context"), source["data"])
    if source.get("type") == "content":
        return _lines(block, ("title", "context"), _texts(source.get("content"), "document", model))
    raise UnsupportedCapabilityError(model, ["document"])


def _lines(block: Mapping[str, Any], names: tuple[str, ...], text: str) -> str:
    return "\n".join([*(block[name] for name in names if isinstance(block.get(name), str)), text])


def _tool_result(block: Mapping[str, Any], model: str, names: Mapping[str, str]) -> Message:
    call_id = block.get("tool_use_id")
    if not isinstance(call_id, str) or not call_id:
        raise InvalidRequestError("tool_result block missing required 'tool_use_id' field", param="messages")
    text = _texts(block.get("content") or "", "tool_result", model)
    if block.get("is_error"):
        text = f"Error: {text}"
    return Message(role="tool", content=text, tool_call_id=call_id, tool_name=names.get(call_id))


def _tool_use(block: Mapping[str, Any], index: int) -> ToolCall:
    for key in ("id", "name"):
        if not isinstance(block.get(key), str) or not block[key]:
            raise InvalidRequestError(f"tool_use block missing required '{key}' field", param="messages")
    arguments = block.get("input") or {}
    if not isinstance(arguments, dict):
        raise InvalidRequestError("tool_use block's 'input' must be an object", param="messages")
    return ToolCall(id=block["id"], name=block["name"], arguments=arguments, index=index)


def _texts(value: Any, where: str, model: str) -> str:
    if isinstance(value, str):
        return value
    texts = []
    for block in value if isinstance(value, list) else [None]:
        if isinstance(block, dict) and block.get("type") == "image":
            raise UnsupportedCapabilityError(model, ["vision"])
        if isinstance(block, dict) and block.get("type") in _WRITTEN and where == "tool_result":
            texts.append(_written(block, model))
            continue
        if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise InvalidRequestError(f"{where} must be a string or a list of text blocks", param=where)
        texts.append(block["text"])
    return "\n".join(texts)


def parse_tools(value: Any) -> tuple[Tool, ...]:
    """Tools of the caller's; those that a server would run itself are refused."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidRequestError("tools must be a list", param="tools")
    return tuple(_tool(item) for item in value)


def _tool(item: Any) -> Tool:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"]:
        raise InvalidRequestError("a tool needs a name", param="tools")
    if item.get("type") not in (None, "custom"):
        raise InvalidRequestError(f"this server runs no tools of its own: {str(item['type'])[:40]}", param="tools")
    schema = item.get("input_schema") or {}
    if not isinstance(schema, dict):
        raise InvalidRequestError(f'invalid input_schema for tool "{item["name"][:80]}"', param="tools")
    return Tool(name=item["name"], description=str(item.get("description") or ""), parameters=schema)


def has_strict(value: Any) -> bool:
    """Whether a tool is asked to be called by its schema and no other way."""
    return any(isinstance(item, dict) and item.get("strict") is True for item in value or ())


def parse_tool_choice(value: Any, tools: tuple[Tool, ...]) -> ToolChoice:
    """`auto`, `any`, `none`, or a tool by name."""
    if value is None:
        return ToolChoice()
    kind = value.get("type") if isinstance(value, dict) else None
    parallel = not (isinstance(value, dict) and value.get("disable_parallel_tool_use"))
    if kind in ("any", "tool") and not tools:
        raise InvalidRequestError("tool_choice needs tools", param="tool_choice")
    if kind == "auto":
        return ToolChoice(parallel=parallel)
    if kind == "none":
        return ToolChoice(mode="none")
    if kind == "any":
        return ToolChoice(mode="required", parallel=parallel)
    if kind == "tool" and value.get("name") in [tool.name for tool in tools]:
        return ToolChoice(mode="required", name=value["name"], parallel=parallel)
    raise InvalidRequestError("tool_choice must be auto, any, none, or name one of the tools", param="tool_choice")
