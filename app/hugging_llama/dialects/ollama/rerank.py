"""POST /api/rerank, which Ollama does not have: documents in the order in which they fit a query."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_body, local_model
from hugging_llama.dialects.body_fields import BodyField
from hugging_llama.dialects.documented import OF_A_MODEL, documented, json_answer
from hugging_llama.dialects.documents import DOCUMENTS, HOLD_TEXT, parse_documents
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama import fields, request_fields, values
from hugging_llama.dialects.ollama.answers import json_response, request_options, stopwatch
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations import residency
from hugging_llama.operations.classification import ranking
from hugging_llama.operations.classification import rerank as rerank_documents

blueprint = Blueprint("ollama_rerank", __name__)


class RerankSchema(fields.GoSchema):
    """The request body."""

    go_name = "RerankRequest"

    model = request_fields.model()
    query = fields.GoString(load_default="", about="What the documents shall fit.")
    documents = BodyField(
        load_default=list,
        schema=DOCUMENTS,
        holds=HOLD_TEXT,
        about="Texts, or objects with one under `text`; with none the model is loaded.",
    )
    top_n = fields.GoInt(load_default=0, schema={"minimum": 0}, about="So many of the best; 0: all.")
    truncate = request_fields.truncate("Whether a pair that is too long loses its end, or is refused.")
    keep_alive = request_fields.keep_alive()
    options = request_fields.options("`num_ctx`, the length at which pairs are cut.")


_schema = RerankSchema()


def parse_rerank(body: Mapping[str, Any]) -> list[str]:
    """The documents of a checked body. Raises InvalidRequestError."""
    if body["top_n"] < 0:
        raise InvalidRequestError("top_n must not be negative", param="top_n")
    return parse_documents(body["documents"])


@blueprint.post("/api/rerank")
@documented(json_answer(schemas.Rerank), request=_schema, headers=OF_A_MODEL, role="use")
def rerank() -> Response:
    """The documents, the best first; with none, load the model."""
    watch = stopwatch()
    body = json_body(_schema)
    documents = parse_rerank(body)
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
