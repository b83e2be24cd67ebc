"""How /api/generate and /api/chat answer once a request is parsed: load, unload, stream, or one object."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flask import Response, current_app

from hugging_llama.dialects.base import (
    Watched,
    app_context,
    local_model,
    stream_response,
    tell_ignored,
)
from hugging_llama.dialects.ollama import values
from hugging_llama.dialects.ollama.clock import Stopwatch
from hugging_llama.dialects.ollama.errors import JSON, NDJSON, endpoint_path, error_line
from hugging_llama.dialects.ollama.options import ParsedOptions, parse_options
from hugging_llama.dialects.ollama.render import AnswerRenderer, encode
from hugging_llama.dialects.progress import parse_progress
from hugging_llama.dialects.start_headers import start_headers
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.models import Capability, LocalModel
from hugging_llama.neutral.requests import ChatPrompt, GenerateCall, Prompt
from hugging_llama.operations import generation, residency, tokenization

logger = logging.getLogger(__name__)

_SAID = "hugging_llama_unknown_options"
_MAX_SAID = 1000
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}")


def json_response(value: Any, content_type: str = JSON) -> Response:
    """One object as the whole answer."""
    return Response(encode(value), content_type=content_type)


def stopwatch() -> Stopwatch:
    """Started as soon as the view is entered, before the body is read."""
    return Stopwatch(in_seconds=app_context().settings.duration_unit == "seconds")


def request_options(options: Mapping[str, Any], field: str = "options") -> ParsedOptions:
    """The request's options, which are in `field`. What has no effect is said in the answer's header, and once in the
    log of this worker, name by name."""
    parsed = parse_options(options)
    tell_ignored(f"{field}.{name}" for name in (*parsed.without_effect, *parsed.unknown))
    _say_once(parsed.without_effect, "option %r has no effect here; see docs/api/generation.md")
    _say_once(parsed.unknown, "option %r is not known here and is ignored")
    return parsed


def _say_once(names: Iterable[str], text: str) -> None:
    said: set[str] = current_app.extensions.setdefault(_SAID, set())
    for name in filter(_NAME.fullmatch, names):  # what is no name may be text, which is nobody's business
        if name not in said and len(said) < _MAX_SAID:  # names come from callers: only so many are kept
            said.add(name)
            logger.warning(text, name)


def generate_call(body: Mapping[str, Any], prompt: Prompt, *, return_context: bool = False) -> GenerateCall:
    """The fields that both endpoints have, around their prompt. Raises InvalidRequestError."""
    options = request_options(body["options"])
    format = values.parse_format(body["format"])
    structured = values.parse_structured_outputs(body["structured_outputs"])
    if format and structured:
        raise InvalidRequestError("format and structured_outputs exclude each other", param="structured_outputs")
    if not isinstance(prompt, ChatPrompt) and "max_thinking_tokens" in options.sampling:
        tell_ignored(["options.thinking_budget"])  # nothing is thought where no template is
    return GenerateCall(
        prompt=prompt,
        options=dict(options.sampling) | values.parse_logprobs(body["logprobs"], body["top_logprobs"]),
        format=format or structured,
        context_length=options.context_length,
        keep_alive_s=values.parse_keep_alive(body["keep_alive"]),
        truncate=body["truncate"],
        shift=body["shift"],
        return_context=return_context,
        tells_progress=parse_progress(body),
    )


def answer(
    body: dict[str, Any],
    render: AnswerRenderer,
    parse: Callable[[dict[str, Any]], GenerateCall],
    *,
    is_empty: bool,
) -> Response:
    """Generate; with nothing to answer (`is_empty`) load the model, or unload it if its keep_alive is zero."""
    model = local_model(body["model"])
    if is_empty and values.parse_keep_alive(body["keep_alive"]) == 0:
        return _answer_unload(model, render)
    generation.require(model, body["model"], Capability.COMPLETION)
    call = parse(body)
    if call.tells_progress and (is_empty or body["debug_render_only"]):
        tell_ignored(["progress"])  # one object is all that comes
    if is_empty:
        return _answer_load(model, call, render)
    if body["debug_render_only"]:
        return _answer_rendered(model, call, render)
    return _answer_generation(model, call, render, stream=body["stream"])


def _answer_unload(model: LocalModel, render: AnswerRenderer) -> Response:
    """Answered at once, even if the model is busy or was never loaded."""
    residency.unload(app_context(), model)
    return json_response(render.bare("unload"))


def _answer_load(model: LocalModel, call: GenerateCall, render: AnswerRenderer) -> Response:
    """Answered when the model is in memory; one plain object even if a stream was asked for."""
    generation.require_for(model, render.model, call.prompt)
    loading = residency.load(app_context(), model, keep_alive_s=call.keep_alive_s, context_length=call.context_length)
    Watched(loading).drain()
    return json_response(render.bare("load"))


def _answer_rendered(model: LocalModel, call: GenerateCall, render: AnswerRenderer) -> Response:
    """What the model would be given, whole, in place of what it says; one plain object in any case."""
    tokens = tokenization.tokenize(
        app_context(), model, render.model, call.prompt, return_text=True, keep_alive_s=call.keep_alive_s
    )
    return json_response(render.rendered(Watched(tokens).drain()[0].text))


def _answer_generation(model: LocalModel, call: GenerateCall, render: AnswerRenderer, *, stream: bool) -> Response:
    """The generation itself, streamed or folded into one object."""
    events = Watched(generation.generate(app_context(), model, render.model, call))
    if stream:
        return stream_response(events, render.line, error_line(endpoint_path()), NDJSON)
    found = events.drain()
    response = json_response(render.whole(found))
    response.headers.update(start_headers(found[0]))
    return response
