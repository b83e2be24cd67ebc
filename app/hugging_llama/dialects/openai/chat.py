"""POST /v1/chat/completions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import (
    Watched,
    app_context,
    json_payload,
    local_model,
    stream_response,
    truncation_headers,
)
from hugging_llama.dialects.openai import messages as parsing
from hugging_llama.dialects.openai.answers import json_response, with_ignored
from hugging_llama.dialects.openai.errors import error_event
from hugging_llama.dialects.openai.fields import Anything, Typed
from hugging_llama.dialects.openai.render import (
    DONE,
    SSE,
    Json,
    event,
    finish_reason,
    head,
    logprobs_json,
    tool_call_json,
    usage_json,
)
from hugging_llama.dialects.openai.sampling import SamplingSchema, parse_response_format, sampling_options
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.events import (
    Finished,
    GenerateEvent,
    PromptLogprobs,
    Started,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from hugging_llama.neutral.models import Capability
from hugging_llama.neutral.requests import ChatPrompt, GenerateCall
from hugging_llama.operations import generation
from hugging_llama.operations.choices import generate_choices

blueprint = Blueprint("openai_chat", __name__)

_EFFORTS: Mapping[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}


class ChatSchema(SamplingSchema):
    """The request body."""

    messages = Anything(load_default=None)
    tools = Anything(load_default=None)
    tool_choice = Anything(load_default=None)
    parallel_tool_calls = Typed(bool, load_default=True)
    response_format = Anything(load_default=None)
    max_completion_tokens = Typed(int, low=0, load_default=None)
    logprobs = Typed(bool, load_default=False)
    top_logprobs = Typed(int, low=0, high=20, load_default=0)
    reasoning_effort = Typed(str, load_default="")
    reasoning = Typed(dict, load_default=dict)
    modalities = Typed(list, load_default=list)
    audio = Typed(dict, load_default=None)
    functions = Typed(list, load_default=list)
    function_call = Anything(load_default=None)
    web_search_options = Typed(dict, load_default=None)


_schema = ChatSchema()
_REFUSED: Mapping[str, str] = {
    "audio": "this server writes text only",
    "functions": "'functions' is the old form of 'tools'",
    "function_call": "'function_call' is the old form of 'tool_choice'",
    "web_search_options": "this server does not search the web",
}


@dataclass(slots=True)
class ChatRenderer:
    """Renders the events of one answer. `model` is the name as the caller sent it."""

    model: str
    num_choices: int
    includes_usage: bool = False
    with_logprobs: bool = False
    _head: Json = field(init=False)
    _started: set[int] = field(default_factory=set)
    _called: set[int] = field(default_factory=set)
    _usages: list[Usage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._head = head("chat.completion.chunk", "chatcmpl", self.model)

    def chunk(self, item: tuple[int, GenerateEvent]) -> bytes:
        """The events of the stream for one event of one choice."""
        index, found = item
        match found:
            case Started() | PromptLogprobs():
                return b""
            case TextDelta(text, entries):
                return self._delta(index, {"content": text}, entries)
            case ThinkingDelta(text, entries):
                return self._delta(index, {"content": "", "reasoning": text}, entries)
            case ToolCallDelta(call):
                self._called.add(index)
                return self._delta(index, {"tool_calls": [tool_call_json(call)]})
            case Finished():
                reason = finish_reason(found, has_calls=index in self._called)
                # an answer without a word still begins with its role
                first = b"" if index in self._started else self._delta(index, {"content": ""})
                return first + self._choice(index, {}, reason) + self._end(found)

    def whole(self, items: Iterable[tuple[int, GenerateEvent]]) -> Json:
        """The same events folded into one object."""
        choices = [_Choice(index=index) for index in range(self.num_choices)]
        for index, found in items:
            choices[index].add(found)
        return head("chat.completion", "chatcmpl", self.model) | {
            "choices": [choice.to_json(with_logprobs=self.with_logprobs) for choice in choices],
            "usage": usage_json([choice.usage for choice in choices]),
        }

    def _delta(self, index: int, delta: Json, entries: tuple[TokenLogprob, ...] = ()) -> bytes:
        if index not in self._started:
            self._started.add(index)
            delta = {"role": "assistant", "content": "", **delta}
        return self._choice(index, delta, None, entries)

    def _choice(self, index: int, delta: Json, reason: str | None, entries: tuple[TokenLogprob, ...] = ()) -> bytes:
        choice: Json = {"index": index, "delta": delta, "finish_reason": reason}
        if entries:
            choice["logprobs"] = logprobs_json(entries)
        return event({**self._head, "choices": [choice]})

    def _end(self, finished: Finished) -> bytes:
        self._usages.append(finished.usage)
        if len(self._usages) < self.num_choices:
            return b""
        usage = event({**self._head, "choices": [], "usage": usage_json(self._usages)}) if self.includes_usage else b""
        return usage + DONE


@dataclass(slots=True)
class _Choice:
    index: int
    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    reason: str = "stop"

    def add(self, found: GenerateEvent) -> None:
        match found:
            case TextDelta(text, entries):
                self.text.append(text)
                self.logprobs += entries
            case ThinkingDelta(text, entries):
                self.thinking.append(text)
                self.logprobs += entries
            case ToolCallDelta(call):
                self.calls.append(tool_call_json(call))
            case Finished():
                self.reason, self.usage = finish_reason(found, has_calls=bool(self.calls)), found.usage

    def to_json(self, *, with_logprobs: bool) -> Json:
        message: Json = {"role": "assistant", "content": "".join(self.text), "refusal": None}
        if self.thinking:
            message["reasoning"] = "".join(self.thinking)
        if self.calls:
            message["tool_calls"] = self.calls
        logprobs = logprobs_json(self.logprobs) | {"refusal": None} if with_logprobs else None
        return {"index": self.index, "message": message, "logprobs": logprobs, "finish_reason": self.reason}


def parse_think(body: Mapping[str, Any]) -> bool | str | None:
    """None for the model's own choice; `reasoning.effort` wins over `reasoning_effort`."""
    value = body["reasoning"].get("effort") or body["reasoning_effort"]
    if not value:
        return None
    if value not in _EFFORTS:
        words = ", ".join(f'"{word}"' for word in ("minimal", "low", "medium", "high", "xhigh", "ultra", "max"))
        raise InvalidRequestError(
            f'invalid reasoning value: "{value}" (must be {words}, or "none")', param="reasoning_effort"
        )
    return _EFFORTS[value]


def parse_chat(body: dict[str, Any]) -> GenerateCall:
    """The checked body as a neutral call. Raises RequestError."""
    for key, text in _REFUSED.items():
        if body[key]:
            raise InvalidRequestError(text, param=key)
    if any(kind != "text" for kind in body["modalities"]):
        raise InvalidRequestError("this server writes text only", param="modalities")
    tools, choice = parsing.parse_tool_choice(
        body["tool_choice"], parsing.parse_tools(body["tools"]), parallel=body["parallel_tool_calls"]
    )
    prompt = ChatPrompt(
        messages=parsing.parse_messages(body["messages"], body["model"]),
        tools=tools,
        tool_choice=choice,
        think=parse_think(body),
    )
    if body["max_completion_tokens"] is not None:
        body["max_tokens"] = body["max_completion_tokens"]
    if body["top_logprobs"] and not body["logprobs"]:
        raise InvalidRequestError("'top_logprobs' needs 'logprobs' to be true", param="top_logprobs")
    options = sampling_options(body) | ({"top_logprobs": body["top_logprobs"]} if body["logprobs"] else {})
    format = parse_response_format(body["response_format"], body["structured_outputs"])
    return GenerateCall(prompt=prompt, options=options, format=format)


@blueprint.post("/v1/chat/completions")
def chat_completions() -> Response:
    """Answer a chat, in one object or as a stream of server-sent events."""
    payload = json_payload(empty="EOF")
    body = _schema.parse(payload)
    call = parse_chat(body)
    model = local_model(body["model"])
    generation.require(model, body["model"], Capability.COMPLETION)
    render = ChatRenderer(
        model=body["model"],
        num_choices=body["n"],
        includes_usage=bool(body["stream_options"].get("include_usage")),
        with_logprobs=body["logprobs"],
    )
    events = Watched(generate_choices(app_context(), model, body["model"], [call], body["n"]))
    if body["stream"]:
        response = stream_response(events, render.chunk, error_event, SSE)
    else:
        found = events.drain()
        response = json_response(render.whole(found))
        response.headers.update(truncation_headers(*found))
    return with_ignored(response, _schema.ignored(payload))
