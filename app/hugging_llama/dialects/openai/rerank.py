"""POST /v1/rerank and /v2/rerank, which OpenAI does not have: the shapes of Jina and Cohere, as vLLM has them."""

from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_payload, local_model
from hugging_llama.dialects.documents import parse_documents
from hugging_llama.dialects.openai.answers import json_response, with_ignored
from hugging_llama.dialects.openai.fields import Anything, OpenAISchema, Typed, parse_truncation
from hugging_llama.dialects.openai.render import Json, new_id
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations.classification import ranking, rerank

blueprint = Blueprint("openai_rerank", __name__)


class RerankSchema(OpenAISchema):
    """The request body. `top_n` 0 is all; `truncate_prompt_tokens` is vLLM's."""

    model = Typed(str, required=True, error_messages={"required": "you must provide a model parameter"})
    query = Typed(str, required=True, error_messages={"required": "you must provide a query parameter"})
    documents = Anything(load_default=None)
    top_n = Typed(int, low=0, load_default=0)
    return_documents = Typed(bool, load_default=False)
    truncate = Typed(bool, load_default=True)
    truncate_prompt_tokens = Typed(int, low=-1, load_default=-1)


_schema = RerankSchema()


def parse_some_documents(value: Any) -> list[str]:
    """At least one. Raises InvalidRequestError."""
    documents = parse_documents(value)
    if not documents:
        raise InvalidRequestError("documents must have at least one item", param="documents")
    return documents


@blueprint.post("/v1/rerank")
def rerank_v1() -> Response:
    """Documents in the order in which they fit a query."""
    return _answer("1")


@blueprint.post("/v2/rerank")
def rerank_v2() -> Response:
    """The same, as Cohere's second version calls it."""
    return _answer("2")


def _answer(version: str) -> Response:
    payload = json_payload(empty="EOF")
    body = _schema.parse(payload)
    documents = parse_some_documents(body["documents"])
    context_length = parse_truncation(body["truncate_prompt_tokens"])
    model = local_model(body["model"])
    found = rerank(
        app_context(),
        model,
        body["model"],
        body["query"],
        documents,
        truncate=body["truncate"],
        context_length=context_length,
    )
    answer = Watched(found).drain()[0]
    results: list[Json] = []
    for place, score in ranking(answer, body["model"], body["top_n"]):
        document = {"document": {"text": documents[place]}} if body["return_documents"] else {}
        results.append({"index": place, "relevance_score": score, **document})
    num_tokens = answer.num_prompt_tokens
    response = json_response(
        {
            "id": new_id("rerank"),
            "object": "list",
            "model": body["model"],
            "results": results,
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
            "meta": {"api_version": {"version": version}, "tokens": {"input_tokens": num_tokens}},
        }
    )
    return with_ignored(response, _schema.ignored(payload))
