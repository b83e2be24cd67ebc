"""POST /v1/completions: the prompt goes to the model as it is, without a chat template."""

import math
from collections.abc import Iterable
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
from hugging_llama.dialects.openai.answers import json_response, with_ignored
from hugging_llama.dialects.openai.errors import error_event
from hugging_llama.dialects.openai.fields import Anything, Typed
from hugging_llama.dialects.openai.render import DONE, SSE, Json, event, finish_reason, head, usage_json
from hugging_llama.dialects.openai.sampling import SamplingSchema, parse_response_format, sampling_options
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.events import Finished, GenerateEvent, PromptLogprobs, TextDelta, TokenLogprob, Usage
from hugging_llama.neutral.models import Capability
from hugging_llama.neutral.requests import GenerateCall, InsertPrompt, Prompt, TextPrompt
from hugging_llama.operations import generation
from hugging_llama.operations.choices import generate_choices

blueprint = Blueprint("openai_completions", __name__)

_MAX_PROMPTS = 64
_DEFAULT_MAX_TOKENS = 16


class CompletionSchema(SamplingSchema):
    """The request body."""

    prompt = Anything(load_default=None)
    suffix = Typed(str, load_default="")
    echo = Typed(bool, load_default=False)
    logprobs = Typed(int, low=0, high=20, load_default=None)
    best_of = Typed(int, load_default=1)


_schema = CompletionSchema()


@dataclass(slots=True)
class CompletionRenderer:
    """Renders the events of one answer. `model` is the name as the caller sent it; `echoes` stand before each text."""

    model: str
    num_choices: int
    echoes: list[str]
    includes_usage: bool = False
    _head: Json = field(init=False)
    _usages: list[Usage] = field(default_factory=list)
    _offsets: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._head = head("text_completion", "cmpl", self.model)

    def chunk(self, item: tuple[int, GenerateEvent]) -> bytes:
        """The events of the stream for one event of one choice."""
        index, found = item
        if isinstance(found, TextDelta):
            return self._choice(index, found.text, None, found.logprobs)
        if isinstance(found, PromptLogprobs):
            return self._choice(index, "", None, _prompt_entries(found))
        if not isinstance(found, Finished):
            return b""
        self._usages.append(found.usage)
        last = self._choice(index, "", finish_reason(found))
        if len(self._usages) < self.num_choices:
            return last
        usage = event({**self._head, "choices": [], "usage": self._usage()}) if self.includes_usage else b""
        return last + usage + DONE

    def whole(self, items: Iterable[tuple[int, GenerateEvent]]) -> Json:
        """The same events folded into one object."""
        texts = [[echo] for echo in self.echoes]
        entries: list[list[TokenLogprob]] = [[] for _ in texts]
        reasons = [""] * len(texts)
        for index, found in items:
            if isinstance(found, TextDelta):
                texts[index].append(found.text)
                entries[index] += found.logprobs
            elif isinstance(found, PromptLogprobs):
                entries[index] += _prompt_entries(found)
            elif isinstance(found, Finished):
                reasons[index] = finish_reason(found)
                self._usages.append(found.usage)
        choices = [
            {
                "text": "".join(texts[index]),
                "index": index,
                "logprobs": _logprobs_json(entries[index], 0) if entries[index] else None,
                "finish_reason": reasons[index],
            }
            for index in range(len(texts))
        ]
        return {**self._head, "choices": choices, "usage": self._usage()}

    def _choice(self, index: int, text: str, reason: str | None, entries: tuple[TokenLogprob, ...] = ()) -> bytes:
        offset = self._offsets.get(index)
        if offset is None:
            text, offset = self.echoes[index] + text, 0
        self._offsets[index] = offset + sum(len(_text(entry)) for entry in entries)
        logprobs = _logprobs_json(entries, offset) if entries else None
        choice = {"text": text, "index": index, "logprobs": logprobs, "finish_reason": reason}
        return event({**self._head, "choices": [choice]})

    def _usage(self) -> Json:
        return usage_json(self._usages)


def _prompt_entries(found: PromptLogprobs) -> tuple[TokenLogprob, ...]:
    """The prompt's tokens; the first one follows nothing, and has no number for a probability."""
    first = () if found.first is None else (TokenLogprob(found.first, math.nan),)
    return (*first, *found.entries)


def _text(entry: TokenLogprob) -> str:
    return entry.token.decode("utf-8", "replace")


def _logprobs_json(entries: Iterable[TokenLogprob], offset: int) -> Json:
    found: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for entry in entries:
        found["tokens"].append(_text(entry))
        is_first = math.isnan(entry.logprob)
        found["token_logprobs"].append(None if is_first else entry.logprob)
        found["top_logprobs"].append(None if is_first else {_text(other): other.logprob for other in entry.top})
        found["text_offset"].append(offset)
        offset += len(_text(entry))
    return found


def parse_prompts(value: Any) -> list[str]:
    """A text or a list of them. Raises InvalidRequestError."""
    prompts = [value] if isinstance(value, str) else value
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], str):
        raise InvalidRequestError("prompts of token ids are not supported by this version yet", param="prompt")
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise InvalidRequestError("'prompt' must be a string or a list of strings", param="prompt")
    if not 0 < len(prompts) <= _MAX_PROMPTS or "" in prompts:
        raise InvalidRequestError(f"'prompt' must hold 1 to {_MAX_PROMPTS} texts, none of them empty", param="prompt")
    return prompts


def parse_completion(body: dict[str, Any], prompt: str) -> GenerateCall:
    """One prompt of the checked body as a neutral call. Raises RequestError."""
    if body["best_of"] != 1:
        raise InvalidRequestError("'best_of' is not supported: ask for 'n' and choose yourself", param="best_of")
    if body["max_tokens"] is None:
        body["max_tokens"] = _DEFAULT_MAX_TOKENS
    options = sampling_options(body) | ({} if body["logprobs"] is None else {"top_logprobs": body["logprobs"]})
    whole: Prompt = TextPrompt(text=prompt)
    if body["suffix"]:
        whole = InsertPrompt(prefix=prompt, suffix=body["suffix"])
    return GenerateCall(
        prompt=whole,
        options=options,
        format=parse_response_format(None, body["structured_outputs"]),
        prompt_logprobs=body["logprobs"] if body["echo"] else None,
    )


@blueprint.post("/v1/completions")
def completions() -> Response:
    """Go on with a text, in one object or as a stream of server-sent events."""
    payload = json_payload(empty="EOF")
    body = _schema.parse(payload)
    prompts = parse_prompts(body["prompt"])
    calls = [parse_completion(body, prompt) for prompt in prompts]
    model = local_model(body["model"])
    generation.require(model, body["model"], Capability.COMPLETION)
    echoes = [prompt if body["echo"] else "" for prompt in prompts for _ in range(body["n"])]
    render = CompletionRenderer(
        model=body["model"],
        num_choices=len(echoes),
        echoes=echoes,
        includes_usage=bool(body["stream_options"].get("include_usage")),
    )
    events = Watched(generate_choices(app_context(), model, body["model"], calls, body["n"]))
    if body["stream"]:
        response = stream_response(events, render.chunk, error_event, SSE)
    else:
        found = events.drain()
        response = json_response(render.whole(found))
        response.headers.update(truncation_headers(*found))
    return with_ignored(response, _schema.ignored(payload))
