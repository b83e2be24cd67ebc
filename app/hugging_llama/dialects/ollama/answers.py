"""How /api/generate and /api/chat answer once a request is parsed: load, unload, stream, or one object."""

from typing import Any

from flask import Response

from hugging_llama.dialects.base import Watched, app_context, stream_response
from hugging_llama.dialects.ollama.clock import Stopwatch
from hugging_llama.dialects.ollama.errors import JSON, NDJSON, endpoint_path, error_line
from hugging_llama.dialects.ollama.render import AnswerRenderer, encode
from hugging_llama.neutral.models import LocalModel
from hugging_llama.neutral.requests import GenerateCall
from hugging_llama.operations import generation, residency


def json_response(value: Any, content_type: str = JSON) -> Response:
    """One object as the whole answer."""
    return Response(encode(value), content_type=content_type)


def stopwatch() -> Stopwatch:
    """Started as soon as the view is entered, before the body is read."""
    return Stopwatch(in_seconds=app_context().settings.duration_unit == "seconds")


def answer_unload(model: LocalModel, render: AnswerRenderer) -> Response:
    """Answered at once, even if the model is busy or was never loaded."""
    residency.unload(app_context(), model)
    return json_response(render.bare("unload"))


def answer_load(model: LocalModel, call: GenerateCall, render: AnswerRenderer) -> Response:
    """Answered when the model is in memory; one plain object even if a stream was asked for."""
    generation.require_for(model, render.model, call.prompt)
    loading = residency.load(app_context(), model, keep_alive_s=call.keep_alive_s, context_length=call.context_length)
    Watched(loading).drain()
    return json_response(render.bare("load"))


def answer_generation(
    model: LocalModel, name: str, call: GenerateCall, render: AnswerRenderer, *, stream: bool
) -> Response:
    """The generation itself, streamed or folded into one object."""
    events = Watched(generation.generate(app_context(), model, name, call))
    if stream:
        return stream_response(events, render.line, error_line(endpoint_path()), NDJSON)
    return json_response(render.whole(events.drain()))
