"""Events and models to Ollama's JSON. Key order is Ollama's; metrics stand in the final object only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from hugging_llama.dialects.ollama.clock import Stopwatch, created_at
from hugging_llama.dialects.packed_numbers import plain
from hugging_llama.dialects.progress import progress_json
from hugging_llama.neutral.events import (
    Finished,
    GenerateEvent,
    Progress,
    PromptLogprobs,
    Started,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCallDelta,
)
from hugging_llama.neutral.messages import ToolCall

Json = dict[str, Any]
encode = msgspec.json.Encoder(enc_hook=plain).encode


def json_line(value: Json) -> bytes:
    """One compact object and one newline."""
    return encode(value) + b"\n"


def tool_call_json(call: ToolCall) -> Json:
    """A call as `tool_calls` holds it; `arguments` is an object in the model's own key order."""
    return {"id": call.id, "function": {"index": call.index, "name": call.name, "arguments": call.arguments}}


def _logprobs(entries: Sequence[TokenLogprob]) -> Json:
    return {"logprobs": [_logprob(entry) for entry in entries]} if entries else {}


def _logprob(entry: TokenLogprob) -> Json:
    """`token` is text, `bytes` what it stands for: half a character has no text of its own."""
    text = entry.token.decode("utf-8", "replace")
    value: Json = {"token": text, "logprob": entry.logprob, "bytes": list(entry.token)}
    if entry.top:
        value["top_logprobs"] = [_logprob(other) for other in entry.top]
    return value


class Piece(Protocol):
    """Renders one fragment of an answer: its text, thinking and calls, as /api/chat or /api/generate words them."""

    def __call__(self, text: str, thinking: str, calls: list[ToolCall]) -> Json: ...


def chat_piece(text: str, thinking: str, calls: list[ToolCall]) -> Json:
    """`message`, with role and content in every object."""
    message: Json = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = [tool_call_json(call) for call in calls]
    return {"message": message}


def generate_piece(text: str, thinking: str, calls: list[ToolCall]) -> Json:
    """`response`, and `thinking` where there is any."""
    piece: Json = {"response": text}
    if thinking:
        piece["thinking"] = thinking
    if calls:
        piece["tool_calls"] = [tool_call_json(call) for call in calls]
    return piece


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRenderer:
    """Renders the events of one generation for one endpoint. `model` is the name as the caller sent it."""

    model: str
    piece: Piece
    watch: Stopwatch

    def line(self, event: GenerateEvent) -> bytes:
        """One NDJSON line for one event; nothing for one that this API has no line for."""
        match event:
            case Progress():
                return json_line(self._object("") | {"done": False, "progress": progress_json(event)})
            case Started() | PromptLogprobs():
                return b""
            case TextDelta(text, logprobs):
                return json_line(self._object(text) | {"done": False} | _logprobs(logprobs))
            case ThinkingDelta(text, logprobs):
                return json_line(self._object("", text) | {"done": False} | _logprobs(logprobs))
            case ToolCallDelta(call):
                return json_line(self._object("", "", [call]) | {"done": False})
            case Finished():
                return json_line(self._object("") | self._end(event))

    def whole(self, events: Iterable[GenerateEvent]) -> Json:
        """The same events folded into the one object of a request without streaming."""
        text, thinking, calls = [], [], []
        logprobs: list[TokenLogprob] = []
        end: Json = {}
        for event in events:
            match event:
                case Progress() | Started() | PromptLogprobs():
                    pass
                case TextDelta(piece, entries):
                    text.append(piece)
                    logprobs += entries
                case ThinkingDelta(piece, entries):
                    thinking.append(piece)
                    logprobs += entries
                case ToolCallDelta(call):
                    calls.append(call)
                case Finished():
                    end = self._end(event)
        return self._object("".join(text), "".join(thinking), calls) | end | _logprobs(logprobs)

    def bare(self, done_reason: str) -> Json:
        """The answer to a load or unload: no durations, counts or context."""
        return self._object("") | {"done": True, "done_reason": done_reason}

    def rendered(self, prompt: str) -> Json:
        """The answer to `_debug_render_only`."""
        return self._object("") | {"done": False, "_debug_info": {"rendered_template": prompt}}

    def _object(self, text: str, thinking: str = "", calls: list[ToolCall] | None = None) -> Json:
        return {"model": self.model, "created_at": created_at(), **self.piece(text, thinking, calls or [])}

    def _end(self, finished: Finished) -> Json:
        end: Json = {"done": True, "done_reason": finished.reason.value}
        if finished.context:
            end["context"] = list(finished.context)
        usage, duration = finished.usage, self.watch.duration
        if usage.num_truncated_tokens:
            end["truncated_tokens"] = usage.num_truncated_tokens
        figures = {
            "total_duration": self.watch.total(),
            "load_duration": duration(usage.load_ns),
            "prompt_eval_count": usage.num_prompt_tokens,
            "prompt_eval_duration": duration(usage.prompt_ns),
            "eval_count": usage.num_output_tokens,
            "eval_duration": duration(usage.decode_ns),
        }
        # Go leaves zeros out: a single token has no time of decoding
        return end | {name: figure for name, figure in figures.items() if figure}
