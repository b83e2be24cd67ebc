"""POST /v1/messages."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from flask import Blueprint, Response

from hugging_llama.dialects.anthropic import answer_schemas as schemas
from hugging_llama.dialects.anthropic.body import (
    MessagesSchema,
    check,
    has_loose_schema,
    parse_format,
    parse_options,
    parse_prompt,
)
from hugging_llama.dialects.anthropic.errors import error_event
from hugging_llama.dialects.anthropic.render import (
    SSE,
    Json,
    encode,
    event,
    new_id,
    signature,
    start_usage_json,
    stop_reason,
    tool_use,
    usage_json,
)
from hugging_llama.dialects.base import (
    Watched,
    app_context,
    json_body,
    local_model,
    stream_response,
    tell_ignored,
)
from hugging_llama.dialects.documented import OF_A_MODEL, documented, events_of, json_answer
from hugging_llama.dialects.progress import parse_progress, progress_json
from hugging_llama.dialects.request_id import request_id
from hugging_llama.dialects.start_headers import start_headers
from hugging_llama.neutral.events import (
    Finished,
    GenerateEvent,
    Progress,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)
from hugging_llama.neutral.models import Capability
from hugging_llama.neutral.requests import GenerateCall
from hugging_llama.operations import generation

blueprint = Blueprint("anthropic_messages", __name__)


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
        if isinstance(found, Progress):
            return event({"type": "ping", "progress": progress_json(found)})
        start = b"" if self._kind else self._start(found)
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

    def _start(self, found: GenerateEvent) -> bytes:
        self._kind = "none"
        usage = start_usage_json(found if isinstance(found, Started) else None)
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


@blueprint.post("/v1/messages")
@documented(
    json_answer(schemas.AnthropicMessage), events_of(*schemas.EVENTS), request=_schema, headers=OF_A_MODEL, role="use"
)
def create_message() -> Response:
    """Answer a chat, in one message or as a stream of events."""
    body = json_body(_schema, empty="EOF")
    check(body)
    model = local_model(body["model"])
    generation.require(model, body["model"], Capability.COMPLETION)
    call = GenerateCall(
        prompt=parse_prompt(body, model),
        options=parse_options(body, model),
        format=parse_format(body),
        tells_start=body["stream"],
        tells_progress=parse_progress(body),
    )
    tell_ignored(["tools.strict"] if has_loose_schema(body, call) else [])
    render = MessageRenderer(model=body["model"], shows_thinking=body["thinking"].get("display") != "omitted")
    events = Watched(generation.generate(app_context(), model, body["model"], call))
    if body["stream"]:
        response = stream_response(events, render.chunk, error_event(request_id()), SSE)
    else:
        found = events.drain()
        response = Response(encode(render.whole(found)), content_type="application/json")
        response.headers.update(start_headers(*found))
    return response
