"""POST /api/rerank, which Ollama does not have: documents in the order in which they fit a query."""

from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_payload, local_model
from hugging_llama.dialects.documents import parse_documents
from hugging_llama.dialects.ollama import fields, values
from hugging_llama.dialects.ollama.answers import json_response, request_options, stopwatch
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations import residency
from hugging_llama.operations.classification import ranking
from hugging_llama.operations.classification import rerank as rerank_documents

blueprint = Blueprint("ollama_rerank", __name__)


class RerankSchema(fields.GoSchema):
    """The request body. `top_n` 0 is all."""

    go_name = "RerankRequest"

    model = fields.GoString(load_default="")
    query = fields.GoString(load_default="")
    documents = fields.GoAny(load_default=list)
    top_n = fields.GoInt(load_default=0)
    truncate = fields.GoBool(load_default=True)
    keep_alive = fields.GoAny(load_default=None)
    options = fields.GoMap(load_default=dict)


_schema = RerankSchema()


def parse_rerank(payload: dict[str, Any]) -> dict[str, Any]:
    """The fields of a body, its documents as texts. Raises InvalidRequestError."""
    body = _schema.parse(payload)
    if body["top_n"] < 0:
        raise InvalidRequestError("top_n must not be negative", param="top_n")
    return body | {"documents": parse_documents(body["documents"])}


@blueprint.post("/api/rerank")
def rerank() -> Response:
    """The documents, the best first; with none, load the model."""
    watch = stopwatch()
    body = parse_rerank(json_payload())
    documents: list[str] = body["documents"]
    keep_alive_s = values.parse_keep_alive(body["keep_alive"])
    ctx = app_context()
    model = local_model(body["model"])
    context_length = request_options(body["options"]).context_length
    if not documents:
        Watched(residency.load(ctx, model, keep_alive_s=keep_alive_s, context_length=context_length)).drain()
        return json_response({"model": body["model"], "results": []})
    scores = rerank_documents(
        ctx,
        model,
        body["model"],
        body["query"],
        documents,
        truncate=body["truncate"],
        context_length=context_length,
        keep_alive_s=keep_alive_s,
    )
    answer = Watched(scores).drain()[0]
    return json_response(
        {
            "model": body["model"],
            "results": [
                {"index": place, "document": documents[place], "relevance_score": score}
                for place, score in ranking(answer, body["model"], body["top_n"])
            ],
            "total_duration": watch.total(),
            "load_duration": watch.duration(answer.load_ns),
            "prompt_eval_count": answer.num_prompt_tokens,
        }
    )
