"""POST /api/embed."""

from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_payload, local_model
from hugging_llama.dialects.ollama import fields, values
from hugging_llama.dialects.ollama.answers import json_response, request_options, stopwatch
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations import residency
from hugging_llama.operations.embedding import embed as embed_texts

blueprint = Blueprint("ollama_embed", __name__)


class EmbedSchema(fields.GoSchema):
    """The request body."""

    go_name = "EmbedRequest"

    model = fields.GoString(load_default="")
    input = fields.GoAny(load_default=None)
    truncate = fields.GoBool(load_default=True)
    dimensions = fields.GoInt(load_default=0)
    keep_alive = fields.GoAny(load_default=None)
    options = fields.GoMap(load_default=dict)


_schema = EmbedSchema()


def parse_inputs(value: Any) -> list[str]:
    """A text, a list of texts, or nothing. Raises InvalidRequestError."""
    if value is None or value == "":
        return []
    inputs = [value] if isinstance(value, str) else value
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise InvalidRequestError("invalid input type", param="input")
    return inputs


@blueprint.post("/api/embed")
def embed() -> Response:
    """Vectors for texts; with none, load the model."""
    watch = stopwatch()
    body = _schema.parse(json_payload())
    inputs = parse_inputs(body["input"])
    keep_alive_s = values.parse_keep_alive(body["keep_alive"])
    ctx = app_context()
    model = local_model(body["model"])
    context_length = request_options(body["options"]).context_length
    if not inputs:
        Watched(residency.load(ctx, model, keep_alive_s=keep_alive_s, context_length=context_length)).drain()
        return json_response({"model": body["model"], "embeddings": []})
    embedding = embed_texts(
        ctx,
        model,
        body["model"],
        inputs,
        truncate=body["truncate"],
        dimensions=body["dimensions"] if body["dimensions"] > 0 else None,
        context_length=context_length,
        keep_alive_s=keep_alive_s,
    )
    answer = Watched(embedding).drain()[0]
    return json_response(
        {
            "model": body["model"],
            "embeddings": answer.vectors,
            "total_duration": watch.total(),
            "load_duration": watch.duration(answer.load_ns),
            "prompt_eval_count": answer.num_prompt_tokens,
        }
    )
