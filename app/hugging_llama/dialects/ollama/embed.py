"""POST /api/embed."""

from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_body, local_model
from hugging_llama.dialects.body_fields import BodyField
from hugging_llama.dialects.documented import OF_A_MODEL, documented, json_answer
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama import fields, request_fields, values
from hugging_llama.dialects.ollama.answers import json_response, request_options, stopwatch
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations import residency
from hugging_llama.operations.embedding import embed as embed_texts

blueprint = Blueprint("ollama_embed", __name__)

_MAX_INPUTS = 10_000
"""A text of one letter has a vector of kilobytes."""


class EmbedSchema(fields.GoSchema):
    """The request body."""

    go_name = "EmbedRequest"

    model = request_fields.model()
    input = BodyField(
        load_default=None,
        schema={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        about="A text or several; with none the model is loaded.",
    )
    truncate = request_fields.truncate("Whether a text that is too long loses its end, or is refused.")
    dimensions = fields.GoInt(load_default=0, about="So many of the vector's numbers, normalised again.")
    keep_alive = request_fields.keep_alive()
    options = request_fields.options("`num_ctx`, the length at which texts are cut.")


_schema = EmbedSchema()


def parse_inputs(value: Any) -> list[str]:
    """A text, a list of texts, or nothing. Raises InvalidRequestError."""
    if value is None or value == "":
        return []
    inputs = [value] if isinstance(value, str) else value
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise InvalidRequestError("invalid input type", param="input")
    if len(inputs) > _MAX_INPUTS:
        raise InvalidRequestError(
            f"input has {len(inputs)} texts, at most {_MAX_INPUTS} are taken: send fewer at once", param="input"
        )
    return inputs


@blueprint.post("/api/embed")
@documented(json_answer(schemas.Embed), request=_schema, headers=OF_A_MODEL, role="use")
def embed() -> Response:
    """Vectors for texts; with none, load the model."""
    watch = stopwatch()
    body = json_body(_schema)
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
