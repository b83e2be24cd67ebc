"""POST /v1/chat/completions."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import (
    Watched,
    app_context,
    json_body,
    local_model,
    stream_response,
    tell_ignored,
)
from hugging_llama.dialects.body_fields import BodyField, Ignored, Refused
from hugging_llama.dialects.documented import OF_A_MODEL, documented, events_of, json_answer
from hugging_llama.dialects.openai import answer_schemas as schemas
from hugging_llama.dialects.openai import known
from hugging_llama.dialects.openai import messages as parsing
from hugging_llama.dialects.openai.answers import json_response
from hugging_llama.dialects.openai.effort import EFFORTS, parse_effort
from hugging_llama.dialects.openai.errors import error_event
from hugging_llama.dialects.openai.fields import Typed
from hugging_llama.dialects.openai.render import (
    DONE,
    SSE,
    Json,
    event,
    finish_reason,
    head,
    logprobs_json,
    progress_event,
    tool_call_json,
    usage_json,
)
from hugging_llama.dialects.openai.sampling import SamplingSchema, parse_response_format, require_name, sampling_options
from hugging_llama.dialects.openai.text_logprobs import TextLogprobs
from hugging_llama.dialects.progress import parse_progress
from hugging_llama.dialects.start_headers import start_headers
from hugging_llama.errors import InvalidRequestError
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
    Usage,
)
from hugging_llama.neutral.messages import begins_answer
from hugging_llama.neutral.models import Capability
from hugging_llama.neutral.requests import ChatPrompt, GenerateCall
from hugging_llama.operations import generation
from hugging_llama.operations.choices import generate_choices

blueprint = Blueprint("openai_chat", __name__)


class ChatSchema(SamplingSchema):
    """The request body."""

    messages = BodyField(
        load_default=None,
        must=True,
        schema={"type": "array", "minItems": 1, "items": {"type": "object"}},
        holds=known.MESSAGES,
        about="The conversation.",
    )
    tools = BodyField(
        load_default=None,
        schema={"type": "array", "items": {"type": "object"}},
        holds=known.TOOLS,
        about="What the model may call.",
    )
    tool_choice = BodyField(
        load_default=None,
        schema={"anyOf": [{"enum": ["auto", "none", "required"]}, {"type": "object"}]},
        holds=known.TOOL_CHOICE,
        about="Whether tools are called, or which one; enforced.",
    )
    parallel_tool_calls = Typed(bool, load_default=True, about="`false` for one call at most: the answer ends with it.")
    response_format = BodyField(
        load_default=None,
        schema={"type": "object", "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}}},
        holds=known.RESPONSE_FORMAT,
        about="JSON, or JSON by a schema; enforced whether `strict` or not.",
    )
    max_completion_tokens = Typed(int, load_default=None, about="Newer spelling of `max_tokens`, and wins.")
    logprobs = Typed(bool, load_default=False, about="Log-probabilities of the tokens.")
    top_logprobs = Typed(int, low=0, high=20, load_default=0, about="How many alternatives come with each token.")
    reasoning_effort = Typed(str, load_default="", schema={"enum": ["", *EFFORTS]}, about="How much to think first.")
    reasoning = Typed(
        dict, load_default=dict, holds=known.REASONING, about="`effort`, which wins over `reasoning_effort`."
    )
    continue_final_message = Typed(
        bool, load_default=False, about="vLLM's: the answer goes on from the last message, if that is the assistant's."
    )
    modalities = Refused("this server writes text only", unless=(["text"],))
    audio = Refused("this server writes text only")
    functions = Refused("use 'tools'")
    function_call = Refused("use 'tool_choice'", unless=("none",))
    web_search_options = Refused("this server does not search the web")
    moderation = Refused("this server has no moderation")
    prediction = Ignored("guesses come from the prompt, and change no text")
    verbosity = Ignored("no model here has such a switch")
    store = Ignored("chat completions are not kept; those of /v1/responses are")
    metadata = Ignored("chat completions are not kept")
    service_tier = Ignored("there is one tier")
    prompt_cache_key = Ignored("prompts are found by their beginnings")
    prompt_cache_options = Ignored("prompts are found by their beginnings")
    prompt_cache_retention = Ignored("beginnings stay as long as there is memory")
    safety_identifier = Ignored("there are no users here, keys apart")


_schema = ChatSchema()


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
    _logprobs: defaultdict[int, TextLogprobs] = field(default_factory=lambda: defaultdict(TextLogprobs))
    _usages: list[Usage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._head = head("chat.completion.chunk", "chatcmpl", self.model)

    def chunk(self, item: tuple[int, GenerateEvent]) -> bytes:
        """The events of the stream for one event of one choice."""
        index, found = item
        entries = self._logprobs[index].of(found)
        match found:
            case Progress():
                return progress_event(self._head, found)
            case Started() | PromptLogprobs() | TextDelta("") | ThinkingDelta(""):
                return b""
            case TextDelta(text):
                return self._delta(index, {"content": text}, entries)
            case ThinkingDelta(text):
                return self._delta(index, {"content": "", "reasoning": text})
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
    text_logprobs: TextLogprobs = field(default_factory=TextLogprobs)
    usage: Usage = field(default_factory=Usage)
    reason: str = "stop"

    def add(self, found: GenerateEvent) -> None:
        self.logprobs += self.text_logprobs.of(found)
        match found:
            case TextDelta(text):
                self.text.append(text)
            case ThinkingDelta(text):
                self.thinking.append(text)
            case ToolCallDelta(call):
                self.calls.append(tool_call_json(call))
            case Finished():
                self.reason, self.usage = finish_reason(found, has_calls=bool(self.calls)), found.usage

    def to_json(self, *, with_logprobs: bool) -> Json:
        message: Json = {"role": "assistant", "content": "".join(self.text), "refusal": None}
        if thinking := "".join(self.thinking):
            message["reasoning"] = thinking
        if self.calls:
            message["tool_calls"] = self.calls
        logprobs = logprobs_json(self.logprobs) | {"refusal": None} if with_logprobs else None
        return {"index": self.index, "message": message, "logprobs": logprobs, "finish_reason": self.reason}


def parse_chat(body: dict[str, Any]) -> GenerateCall:
    """The checked body as a neutral call. Raises RequestError."""
    tools, choice = parsing.parse_tool_choice(
        body["tool_choice"], parsing.parse_tools(body["tools"]), parallel=body["parallel_tool_calls"]
    )
    messages = parsing.parse_messages(body["messages"], body["model"])
    prompt = ChatPrompt(
        messages=messages,
        tools=tools,
        tool_choice=choice,
        think=parse_effort(body["reasoning"].get("effort") or body["reasoning_effort"], "reasoning_effort"),
        continues=body["continue_final_message"] and begins_answer(messages),
    )
    if body["max_completion_tokens"] is not None:
        body["max_tokens"] = body["max_completion_tokens"]
    if body["top_logprobs"] and not body["logprobs"]:
        raise InvalidRequestError("'top_logprobs' needs 'logprobs' to be true", param="top_logprobs")
    options = sampling_options(body) | ({"top_logprobs": body["top_logprobs"]} if body["logprobs"] else {})
    format = parse_response_format(body["response_format"], body["structured_outputs"])
    return GenerateCall(prompt=prompt, options=options, format=format, tells_progress=parse_progress(body))


@blueprint.post("/v1/chat/completions")
@documented(
    json_answer(schemas.ChatCompletion),
    events_of(schemas.ChatCompletionChunk, schemas.OpenAIError, end="[DONE]"),
    request=_schema,
    headers=OF_A_MODEL,
    role="use",
)
def chat_completions() -> Response:
    """Answer a chat, in one object or as a stream of server-sent events."""
    body = json_body(_schema, empty="EOF")
    call = parse_chat(body)
    if isinstance(call.prompt, ChatPrompt) and call.prompt.tool_choice.mode == "auto" and call.format is None:
        # where nothing must be called, nothing holds the model to a schema
        tell_ignored(["tools.function.strict"] if parsing.has_strict(body["tools"]) else [])
    require_name(body)
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
        response.headers.update(start_headers(*found))
    return response
