"""POST /v1/embeddings."""

import base64
from array import array
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_body, local_model
from hugging_llama.dialects.body_fields import BodyField, Ignored
from hugging_llama.dialects.body_schema import BodySchema
from hugging_llama.dialects.documented import OF_A_MODEL, documented, json_answer
from hugging_llama.dialects.openai import answer_schemas as schemas
from hugging_llama.dialects.openai.answers import json_response
from hugging_llama.dialects.openai.fields import TEXTS_OR_IDS, TextOrIds, Typed, needed_text, texts_or_ids
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations.embedding import embed

blueprint = Blueprint("openai_embeddings", __name__)

_MAX_INPUTS = 2048


class EmbeddingsSchema(BodySchema):
    """The request body."""

    model = needed_text("model", "A model that embeds.")
    input = BodyField(load_default=None, must=True, schema=TEXTS_OR_IDS, about="Texts, or token ids.")
    encoding_format = Typed(
        str, load_default="float", schema={"enum": ["float", "base64"]}, about="Numbers, or float32 in base64."
    )
    dimensions = Typed(int, low=1, load_default=None, about="So many of the vector's numbers, normalised again.")
    user = Ignored("there are no users here, keys apart")


_schema = EmbeddingsSchema()


def parse_inputs(value: Any) -> list[TextOrIds]:
    """A text or a list of texts; the empty text is one. Or token ids, or a list of lists of them. Raises
    InvalidRequestError."""
    if value is None or value == []:
        raise InvalidRequestError("invalid input", param="input")
    inputs = texts_or_ids(value)
    if inputs is None or () in inputs:
        raise InvalidRequestError("invalid input type", param="input")
    if len(inputs) > _MAX_INPUTS:
        raise InvalidRequestError(f"'input' must have at most {_MAX_INPUTS} texts", param="input")
    return inputs


def _encoded(vector: Sequence[float], *, as_base64: bool) -> Any:
    """Numbers, or the little-endian float32 of all in base64."""
    if not as_base64:
        return vector
    values = array("f", vector)
    if array("H", [1]).tobytes()[0] == 0:
        values.byteswap()
    return base64.b64encode(values.tobytes()).decode()


@blueprint.post("/v1/embeddings")
@documented(json_answer(schemas.EmbeddingList), request=_schema, headers=OF_A_MODEL, role="use")
def embeddings() -> Response:
    """Vectors for texts."""
    body = json_body(_schema, empty="EOF")
    encoding = body["encoding_format"].lower()
    if encoding not in ("float", "base64"):
        raise InvalidRequestError(
            f"Invalid value for 'encoding_format' = {body['encoding_format']}. Supported values: ['float', 'base64'].",
            param="encoding_format",
        )
    inputs = parse_inputs(body["input"])
    model = local_model(body["model"])
    found = embed(app_context(), model, body["model"], inputs, dimensions=body["dimensions"])
    answer = Watched(found).drain()[0]
    data = [
        {"object": "embedding", "embedding": _encoded(vector, as_base64=encoding == "base64"), "index": index}
        for index, vector in enumerate(answer.vectors)
    ]
    usage = {"prompt_tokens": answer.num_prompt_tokens, "total_tokens": answer.num_prompt_tokens}
    return json_response({"object": "list", "data": data, "model": body["model"], "usage": usage})
