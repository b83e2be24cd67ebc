"""POST /api/detokenize, which Ollama does not have: the text of token ids."""

from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_body, local_model
from hugging_llama.dialects.body_fields import BodyField
from hugging_llama.dialects.documented import documented, json_answer
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama import fields, request_fields, values
from hugging_llama.dialects.ollama.answers import json_response, stopwatch
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations import tokenization

blueprint = Blueprint("ollama_detokenize", __name__)

MAX_BODY_BYTES = 2**20
"""Some hundred thousand ids; while they are decoded no step of any model begins."""


class DetokenizeSchema(fields.GoSchema):
    """The request body."""

    go_name = "DetokenizeRequest"

    model = request_fields.model()
    tokens = BodyField(
        load_default=None,
        must=True,
        schema={"type": "array", "items": {"type": "integer"}},
        about="Token ids.",
    )
    keep_alive = request_fields.keep_alive()


_schema = DetokenizeSchema()


def parse_tokens(value: Any) -> list[int]:
    """A list of ids. Raises InvalidRequestError.

    In one look at all of them: there may be a million, and no other request is served meanwhile.
    """
    if not isinstance(value, list) or not set(map(type, value)) <= {int}:
        raise InvalidRequestError("tokens must be a list of token ids", param="tokens")
    return value


@blueprint.post("/api/detokenize")
@documented(json_answer(schemas.Detokenize), request=_schema, role="use")
def detokenize() -> Response:
    """What the ids say, special tokens spelt out."""
    watch = stopwatch()
    body = json_body(_schema, limit=MAX_BODY_BYTES)
    tokens = parse_tokens(body["tokens"])
    keep_alive_s = values.parse_keep_alive(body["keep_alive"])
    model = local_model(body["model"])
    text = tokenization.detokenize(app_context(), model, tokens, keep_alive_s=keep_alive_s)
    answer = Watched(text).drain()[0]
    return json_response(
        {
            "model": body["model"],
            "content": answer.text,
            "total_duration": watch.total(),
            "load_duration": watch.duration(answer.load_ns),
        }
    )
