"""POST /v1/classify, which OpenAI does not have: labels for texts, in the shape of vLLM."""

import time
from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_body, local_model
from hugging_llama.dialects.body_fields import BodyField, Ignored
from hugging_llama.dialects.body_schema import BodySchema
from hugging_llama.dialects.documented import OF_A_MODEL, documented, json_answer
from hugging_llama.dialects.openai import answer_schemas as schemas
from hugging_llama.dialects.openai.answers import json_response
from hugging_llama.dialects.openai.embeddings import parse_inputs
from hugging_llama.dialects.openai.fields import TEXT_OR_TEXTS, Typed, needed_text, parse_truncation
from hugging_llama.dialects.openai.render import new_id
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations.classification import classify as classify_texts
from hugging_llama.operations.classification import labelled

blueprint = Blueprint("openai_classify", __name__)


class ClassifySchema(BodySchema):
    """The request body."""

    model = needed_text("model", "A model that classifies.")
    input = BodyField(load_default=None, must=True, schema=TEXT_OR_TEXTS, about="Texts.")
    truncate_prompt_tokens = Typed(int, low=-1, load_default=-1, about="vLLM's: the most tokens of a text.")
    user = Ignored("there are no users here, keys apart")
    priority = Ignored("requests take turns")


_schema = ClassifySchema()


def parse_texts(value: Any) -> list[str]:
    """A text or a list of texts; the empty text is one. Raises InvalidRequestError."""
    inputs = parse_inputs(value)
    texts = [text for text in inputs if isinstance(text, str)]
    if len(texts) < len(inputs):
        raise InvalidRequestError("invalid input type", param="input")
    return texts


@blueprint.post("/v1/classify")
@documented(json_answer(schemas.Classification), request=_schema, headers=OF_A_MODEL, role="use")
def classify() -> Response:
    """The likeliest label of each text, and the probabilities of all."""
    body = json_body(_schema, empty="EOF")
    inputs = parse_texts(body["input"])
    context_length = parse_truncation(body["truncate_prompt_tokens"])
    model = local_model(body["model"])
    found = classify_texts(app_context(), model, body["model"], inputs, context_length=context_length)
    answer = Watched(found).drain()[0]
    data = [
        {"index": index, "label": label, "probs": row, "num_classes": len(row)}
        for index, (label, row) in enumerate(labelled(answer))
    ]
    num_tokens = answer.num_prompt_tokens
    return json_response(
        {
            "id": new_id("classify"),
            "object": "list",
            "created": int(time.time()),
            "model": body["model"],
            "data": data,
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens, "completion_tokens": 0},
        }
    )
