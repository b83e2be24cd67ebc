"""POST /v1/messages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, Response
from marshmallow import EXCLUDE, Schema, ValidationError, fields

from hugging_llama.dialects.anthropic import messages as parsing
from hugging_llama.dialects.anthropic.errors import error_event
from hugging_llama.dialects.anthropic.render import (
    SSE,
    Json,
    encode,
    event,
    new_id,
    signature,
    stop_reason,
    tool_use,
    usage_json,
)
from hugging_llama.dialects.base import (
    Watched,
    app_context,
    json_payload,
    local_model,
    stream_response,
    truncation_headers,
)
from hugging_llama.dialects.ignored_fields import with_ignored
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.events import Finished, GenerateEvent, TextDelta, ThinkingDelta, ToolCallDelta
from hugging_llama.neutral.formats import JsonSchema, OutputFormat
from hugging_llama.neutral.models import Capability, LocalModel
from hugging_llama.neutral.requests import ChatPrompt, GenerateCall
from hugging_llama.operations import generation

blueprint = Blueprint("anthropic_messages", __name__)

_EFFORTS: Mapping[str, str] = {"low": "low", "medium": "medium", "high": "high", "max": "max", "xhigh": "high"}


class MessagesSchema(Schema):
    """The request body; what is not named here (`metadata`, `cache_control`, `service_tier`, …) has no effect."""

    class Meta:
        unknown = EXCLUDE

    model = fields.String(load_default="", allow_none=True)
    max_tokens = fields.Integer(load_default=0, allow_none=True)
    messages = fields.Raw(load_default=None, allow_none=True)
    system = fields.Raw(load_default=None, allow_none=True)
    temperature = fields.Float(load_default=None, allow_none=True)
    top_p = fields.Float(load_default=None, allow_none=True)
    top_k = fields.Integer(load_default=None, allow_none=True)
    stop_sequences = fields.List(fields.String(), load_default=list, allow_none=True)
    stream = fields.Boolean(load_default=False, allow_none=True)
    tools = fields.Raw(load_default=None, allow_none=True)
    tool_choice = fields.Raw(load_default=None, allow_none=True)
    thinking = fields.Dict(load_default=dict, allow_none=True)
    output_config = fields.Dict(load_default=dict, allow_none=True)
    output_format = fields.Dict(load_default=None, allow_none=True)
    mcp_servers = fields.List(fields.Raw(), load_default=list, allow_none=True)


_schema = MessagesSchema()


@dataclass(slots=True)
class MessageRenderer:
    """Renders the events of one answer. `model` is the name as the caller sent it; of thoughts that are not shown
    there are blocks without text."""

    model: str
    shows_thinking: bool = True
    _id: str = field(default_factory=lambda: new_id("msg"))
    _kind: str = ""
    _index: int = -1
    _has_calls: bool = False
    _thoughts: list[str] = field(default_factory=list)

    def chunk(self, found: GenerateEvent) -> bytes:
        """The events of the stream for one event of the engine."""
        start = self._start() if self._index < 0 and not self._kind else b""
        match found:
            case TextDelta(text):
                return start + (self._said(text) if text else b"")
            case ThinkingDelta(text):
                return start + (self._thought(text) if text else b"")
            case ToolCallDelta(call):
                self._has_calls = True
                block = self._open("tool_use", tool_use(call) | {"input": {}})
                partial = encode(call.arguments).decode()
                return start + block + self._delta({"type": "input_json_delta", "partial_json": partial})
            case Finished():
                reason = stop_reason(found, has_calls=self._has_calls)
                end = {"type": "message_delta", "delta": reason, "usage": usage_json(found.usage)}
                return start + self._close() + event(end) + event({"type": "message_stop"})
        return start

    def whole(self, found: Iterable[GenerateEvent]) -> Json:
        """The same events folded into one message."""
        blocks: list[Json] = []
        answer: Json = {}
        for item in found:
            match item:
                case TextDelta(text):
                    _append(blocks, "text", text)
                case ThinkingDelta(text):
                    _append(blocks, "thinking", text)
                case ToolCallDelta(call):
                    blocks.append(tool_use(call))
                case Finished():
                    has_calls = any(block["type"] == "tool_use" for block in blocks)
                    answer = stop_reason(item, has_calls=has_calls) | {"usage": usage_json(item.usage)}
        for block in blocks:
            if block["type"] == "thinking":
                block["signature"] = signature(block["thinking"])
                block["thinking"] = block["thinking"] if self.shows_thinking else ""
        return self._head() | {"content": blocks} | answer

    def _head(self) -> Json:
        return {"id": self._id, "type": "message", "role": "assistant", "model": self.model, "content": []}

    def _start(self) -> bytes:
        self._kind = "none"
        usage = {"input_tokens": 0, "output_tokens": 0}
        message = self._head() | {"stop_reason": None, "stop_sequence": None, "usage": usage}
        return event({"type": "message_start", "message": message})

    def _said(self, text: str) -> bytes:
        return self._opened("text", {}) + self._delta({"type": "text_delta", "text": text})

    def _thought(self, text: str) -> bytes:
        opened = self._opened("thinking", {"signature": ""})
        self._thoughts.append(text)
        return opened + (self._delta({"type": "thinking_delta", "thinking": text}) if self.shows_thinking else b"")

    def _opened(self, kind: str, more: Json) -> bytes:
        return self._open(kind, {"type": kind, kind: "", **more}) if self._kind != kind else b""

    def _open(self, kind: str, block: Json) -> bytes:
        closed = self._close()
        self._kind, self._index = kind, self._index + 1
        return closed + event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _delta(self, delta: Json) -> bytes:
        return event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _close(self) -> bytes:
        if self._kind == "none":
            return b""
        signed = b""
        if self._kind == "thinking":
            signed = self._delta({"type": "signature_delta", "signature": signature("".join(self._thoughts))})
            self._thoughts.clear()
        self._kind = "none"
        return signed + event({"type": "content_block_stop", "index": self._index})


def _append(blocks: list[Json], kind: str, text: str) -> None:
    if blocks and blocks[-1]["type"] == kind:
        blocks[-1][kind] += text
    elif text:
        blocks.append({"type": kind, kind: text})


def parse_body(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The checked body. Raises InvalidRequestError."""
    try:
        body: dict[str, Any] = _schema.load({key: value for key, value in payload.items() if value is not None})
    except ValidationError as error:
        problems = error.messages if isinstance(error.messages, dict) else {"body": error.messages}
        key, found = next(iter(problems.items()))
        text = found[0] if isinstance(found, list) else "has a value of a wrong type"
        raise InvalidRequestError(f"{key}: {text}", param=key) from None
    if not body["model"]:
        raise InvalidRequestError("model is required", param="model")
    if body["max_tokens"] <= 0:
        raise InvalidRequestError("max_tokens is required and must be positive", param="max_tokens")
    if body["mcp_servers"]:
        raise InvalidRequestError(
            "this server talks to no MCP servers: send their tools as 'tools'", param="mcp_servers"
        )
    return body


def ignored_fields(payload: Mapping[str, Any]) -> list[str]:
    """What the caller gave and nothing is done with."""
    return sorted(key for key, value in payload.items() if value is not None and key not in _schema.fields)


def parse_prompt(body: Mapping[str, Any], model: LocalModel) -> ChatPrompt:
    """The conversation. A model that can't think is not asked to: callers of this API ask every model."""
    tools = parsing.parse_tools(body["tools"])
    can_think = Capability.THINKING in model.capabilities
    return ChatPrompt(
        messages=(*parsing.parse_system(body["system"]), *parsing.parse_messages(body["messages"], body["model"])),
        tools=tools,
        tool_choice=parsing.parse_tool_choice(body["tool_choice"], tools),
        think=_think(body) if can_think else None,
    )


def _think(body: Mapping[str, Any]) -> bool | str | None:
    kind = body["thinking"].get("type")
    if kind == "disabled":
        return False
    effort = _EFFORTS.get(str(body["output_config"].get("effort")))
    return effort or (True if kind == "enabled" else None)


def parse_format(body: Mapping[str, Any]) -> OutputFormat | None:
    """`output_config.format`, or `output_format`, as it was called before. Raises InvalidRequestError."""
    old, new = body["output_format"], body["output_config"].get("format")
    if old and new:
        raise InvalidRequestError("output_format and output_config.format exclude each other", param="output_format")
    if not (found := new or old):
        return None
    schema = found.get("schema") if isinstance(found, dict) and found.get("type") == "json_schema" else None
    if not isinstance(schema, dict):
        raise InvalidRequestError(
            'output_config.format must be {"type": "json_schema", "schema": {…}}', param="output_config"
        )
    return JsonSchema(encode(schema).decode())


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    """SamplingParams fields by name; those that are not given are the model's."""
    for name, high in (("temperature", 1e3), ("top_p", 1.0)):
        if body[name] is not None and not 0 <= body[name] <= high:
            raise InvalidRequestError(f"{name}: must be from 0 to {high:g}", param=name)
    given = {name: body[name] for name in ("temperature", "top_p", "top_k") if body[name] is not None}
    budget = body["thinking"].get("budget_tokens")
    if type(budget) is int and budget > 0:
        given["max_thinking_tokens"] = budget
    stop = tuple(text for text in body["stop_sequences"] if text)
    return {**given, "max_tokens": body["max_tokens"], "stop": stop}


@blueprint.post("/v1/messages")
def create_message() -> Response:
    """Answer a chat, in one message or as a stream of events."""
    payload = json_payload(empty="EOF")
    body = parse_body(payload)
    format = parse_format(body)
    model = local_model(body["model"])
    generation.require(model, body["model"], Capability.COMPLETION)
    call = GenerateCall(prompt=parse_prompt(body, model), options=_options(body), format=format)
    render = MessageRenderer(model=body["model"], shows_thinking=body["thinking"].get("display") != "omitted")
    events = Watched(generation.generate(app_context(), model, body["model"], call))
    if body["stream"]:
        response = stream_response(events, render.chunk, error_event, SSE)
    else:
        found = events.drain()
        response = Response(encode(render.whole(found)), content_type="application/json")
        response.headers.update(truncation_headers(*found))
    response.headers["request-id"] = new_id("req")
    return with_ignored(response, ignored_fields(payload))
