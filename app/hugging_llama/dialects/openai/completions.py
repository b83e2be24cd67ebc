"""POST /v1/completions: the prompt goes to the model as it is, without a chat template."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import (
    STREAM_HEADERS,
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
from hugging_llama.dialects.openai.answers import json_response
from hugging_llama.dialects.openai.errors import error_event
from hugging_llama.dialects.openai.fields import TEXTS_OR_IDS, TextOrIds, Typed, texts_or_ids
from hugging_llama.dialects.openai.render import DONE, SSE, Json, event, finish_reason, head, progress_event, usage_json
from hugging_llama.dialects.openai.sampling import SamplingSchema, parse_response_format, sampling_options
from hugging_llama.dialects.progress import parse_progress
from hugging_llama.dialects.start_headers import start_headers
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.events import (
    Finished,
    GenerateEvent,
    Progress,
    PromptLogprobs,
    TextDelta,
    TokenLogprob,
    Usage,
)
from hugging_llama.neutral.models import Capability, LocalModel
from hugging_llama.neutral.requests import GenerateCall, InsertPrompt, Prompt, TextPrompt, TokensPrompt
from hugging_llama.operations import generation, residency
from hugging_llama.operations.choices import generate_choices
from hugging_llama.operations.tokenization import detokenize

blueprint = Blueprint("openai_completions", __name__)

_MAX_PROMPTS = 64
_DEFAULT_MAX_TOKENS = 16


class CompletionSchema(SamplingSchema):
    """The request body."""

    prompt = BodyField(load_default=None, must=True, schema=TEXTS_OR_IDS, about="Texts, or token ids, to go on with.")
    suffix = Typed(str, load_default="", about="What stands behind the gap that is to be filled.")
    echo = Typed(bool, load_default=False, about="The prompt, and its log-probabilities, before the answer.")
    logprobs = Typed(int, low=0, high=20, load_default=None, about="So many alternatives with each token.")
    thinking_budget = Ignored("nothing is thought: the prompt goes to the model as it is")
    best_of = Refused("ask for 'n' and choose yourself", unless=(1,))


_schema = CompletionSchema()


@dataclass(slots=True)
class CompletionRenderer:
    """Renders the events of one answer. `model` is the name as the caller sent it; `echoes` stand before each text."""

    model: str
    num_prompts: int
    num_choices: int
    echoes: list[str]
    includes_usage: bool = False
    _head: Json = field(init=False)
    _usages: dict[int, Usage] = field(default_factory=dict)
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
        if isinstance(found, Progress):
            return progress_event(self._head, found)
        if not isinstance(found, Finished):
            return b""
        self._usages[index] = found.usage
        last = self._choice(index, "", finish_reason(found))
        if len(self._usages) < self.num_choices:
            return last
        usage = event({**self._head, "choices": [], "usage": self._usage()}) if self.includes_usage else b""
        return last + usage + DONE

    def nothing(self) -> tuple[Json, bytes]:
        """The answer to nothing, in one object and as a stream: the model is loaded."""
        choices = [{"text": "", "index": n, "logprobs": None, "finish_reason": "load"} for n in range(self.num_choices)]
        whole = {**self._head, "choices": choices, "usage": self._usage()}
        usage = event({**whole, "choices": []}) if self.includes_usage else b""
        return whole, event({**self._head, "choices": choices}) + usage + DONE

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
                self._usages[index] = found.usage
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
        return usage_json([self._usages[index] for index in sorted(self._usages)], self.num_prompts)


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
        found["top_logprobs"].append(None if is_first else _best(entry))
        found["text_offset"].append(offset)
        offset += len(_text(entry))
    return found


def _best(entry: TokenLogprob) -> Json:
    """The alternatives, and the token itself, whether or not it is one of the best."""
    best = {_text(other): other.logprob for other in entry.top}
    best.setdefault(_text(entry), entry.logprob)
    return best


def parse_prompts(value: Any) -> list[TextOrIds]:
    """A text, a list of them, token ids, or a list of lists of them. Raises InvalidRequestError."""
    prompts = texts_or_ids(value)
    if prompts is None:
        raise InvalidRequestError(
            "'prompt' must be a string, a list of strings, a list of token ids, or a list of such lists", param="prompt"
        )
    if not 0 < len(prompts) <= _MAX_PROMPTS or not all(prompts):
        raise InvalidRequestError(f"'prompt' must hold 1 to {_MAX_PROMPTS} prompts, none of them empty", param="prompt")
    return prompts


def parse_completion(body: dict[str, Any], prompt: TextOrIds) -> GenerateCall:
    """One prompt of the checked body as a neutral call. Raises RequestError."""
    if body["max_tokens"] is None:
        body["max_tokens"] = _DEFAULT_MAX_TOKENS
    options = sampling_options(body)
    if body["logprobs"] is not None:
        options["top_logprobs"] = body["logprobs"]
    return GenerateCall(
        prompt=_parse_prompt(prompt, body["suffix"]),
        options=options,
        format=parse_response_format(None, body["structured_outputs"]),
        prompt_logprobs=body["logprobs"] if body["echo"] else None,
        tells_progress=parse_progress(body),
    )


def _parse_prompt(prompt: TextOrIds, suffix: str) -> Prompt:
    if isinstance(prompt, tuple):
        if suffix:
            raise InvalidRequestError("'suffix' needs a 'prompt' of text", param="suffix")
        return TokensPrompt(token_ids=prompt)
    return InsertPrompt(prefix=prompt, suffix=suffix) if suffix else TextPrompt(text=prompt)


def _text_of(prompt: TextOrIds, model: LocalModel) -> str:
    if isinstance(prompt, str):
        return prompt
    return Watched(detokenize(app_context(), model, prompt)).drain()[0].text


def _renderer(body: Mapping[str, Any], echoes: list[str]) -> CompletionRenderer:
    return CompletionRenderer(
        model=body["model"],
        num_prompts=len(echoes) // body["n"],
        num_choices=len(echoes),
        echoes=echoes,
        includes_usage=bool(body["stream_options"].get("include_usage")),
    )


def _answer_load(body: dict[str, Any]) -> Response:
    """There is nothing to go on with: as in Ollama the model is loaded."""
    parse_completion(body, "")
    tell_ignored(["progress"] if body["progress"] else [])
    model = local_model(body["model"])
    generation.require(model, body["model"], Capability.COMPLETION)
    Watched(residency.load(app_context(), model, keep_alive_s=None)).drain()
    whole, stream = _renderer(body, [""] * body["n"]).nothing()
    return Response(stream, mimetype=SSE, headers=STREAM_HEADERS) if body["stream"] else json_response(whole)


@blueprint.post("/v1/completions")
@documented(
    json_answer(schemas.TextCompletion),
    events_of(schemas.TextCompletion, schemas.OpenAIError, end="[DONE]"),
    request=_schema,
    headers=OF_A_MODEL,
    role="use",
)
def completions() -> Response:
    """Go on with a text, in one object or as a stream of server-sent events."""
    body = json_body(_schema, empty="EOF")
    if body["prompt"] == "" and not body["suffix"]:
        return _answer_load(body)
    prompts = parse_prompts(body["prompt"])
    calls = [parse_completion(body, prompt) for prompt in prompts]
    model = local_model(body["model"])
    generation.require(model, body["model"], Capability.COMPLETION)
    texts = [_text_of(prompt, model) if body["echo"] else "" for prompt in prompts]
    echoes = [text for text in texts for _ in range(body["n"])]
    render = _renderer(body, echoes)
    events = Watched(generate_choices(app_context(), model, body["model"], calls, body["n"]))
    if body["stream"]:
        response = stream_response(events, render.chunk, error_event, SSE)
    else:
        found = events.drain()
        response = json_response(render.whole(found))
        response.headers.update(start_headers(*found))
    return response
