"""POST /v1/classify, which OpenAI does not have: labels for texts, in the shape of vLLM."""

import time

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_payload, local_model
from hugging_llama.dialects.openai.answers import json_response, with_ignored
from hugging_llama.dialects.openai.embeddings import parse_inputs
from hugging_llama.dialects.openai.fields import Anything, OpenAISchema, Typed, parse_truncation
from hugging_llama.dialects.openai.render import new_id
from hugging_llama.operations.classification import classify as classify_texts
from hugging_llama.operations.classification import labelled

blueprint = Blueprint("openai_classify", __name__)


class ClassifySchema(OpenAISchema):
    """The request body."""

    model = Typed(str, required=True, error_messages={"required": "you must provide a model parameter"})
    input = Anything(load_default=None)
    truncate_prompt_tokens = Typed(int, low=-1, load_default=-1)


_schema = ClassifySchema()


@blueprint.post("/v1/classify")
def classify() -> Response:
    """The likeliest label of each text, and the probabilities of all."""
    payload = json_payload(empty="EOF")
    body = _schema.parse(payload)
    inputs = parse_inputs(body["input"])
    context_length = parse_truncation(body["truncate_prompt_tokens"])
    model = local_model(body["model"])
    found = classify_texts(app_context(), model, body["model"], inputs, context_length=context_length)
    answer = Watched(found).drain()[0]
    data = [
        {"index": index, "label": label, "probs": row, "num_classes": len(row)}
        for index, (label, row) in enumerate(labelled(answer))
    ]
    num_tokens = answer.num_prompt_tokens
    response = json_response(
        {
            "id": new_id("classify"),
            "object": "list",
            "created": int(time.time()),
            "model": body["model"],
            "data": data,
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens, "completion_tokens": 0},
        }
    )
    return with_ignored(response, _schema.ignored(payload))
