"""POST /v1/rerank and /v2/rerank, which OpenAI does not have: the shapes of Jina and Cohere, as vLLM has them."""

from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_body, local_model
from hugging_llama.dialects.body_fields import BodyField, Ignored
from hugging_llama.dialects.body_schema import BodySchema
from hugging_llama.dialects.documented import OF_A_MODEL, documented, json_answer
from hugging_llama.dialects.documents import DOCUMENTS, HOLD_TEXT, parse_documents
from hugging_llama.dialects.openai import answer_schemas as schemas
from hugging_llama.dialects.openai.answers import json_response
from hugging_llama.dialects.openai.fields import Typed, needed_text, parse_truncation
from hugging_llama.dialects.openai.render import Json, new_id
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations.classification import ranking, rerank

blueprint = Blueprint("openai_rerank", __name__)


class RerankSchema(BodySchema):
    """The request body."""

    model = needed_text("model", "A model that reranks.")
    query = needed_text("query", "What the documents shall fit.")
    documents = BodyField(
        load_default=None,
        must=True,
        schema=DOCUMENTS,
        holds=HOLD_TEXT,
        about="Texts, or objects with one under `text`.",
    )
    top_n = Typed(int, low=0, load_default=0, about="So many of the best; 0: all.")
    return_documents = Typed(bool, load_default=False, about="With their texts.")
    truncate = Typed(bool, load_default=True, about="Whether a pair that is too long loses its end, or is refused.")
    truncate_prompt_tokens = Typed(int, low=-1, load_default=-1, about="vLLM's: the most tokens of a pair.")
    max_tokens_per_doc = Ignored("a pair is cut as a whole: see truncate_prompt_tokens")
    max_chunks_per_doc = Ignored("a document is one piece")
    rank_fields = Ignored("of an object it is the text that counts")
    priority = Ignored("requests take turns")
    user = Ignored("there are no users here, keys apart")


_schema = RerankSchema()


def parse_some_documents(value: Any) -> list[str]:
    """At least one. Raises InvalidRequestError."""
    documents = parse_documents(value)
    if not documents:
        raise InvalidRequestError("documents must have at least one item", param="documents")
    return documents


@blueprint.post("/v1/rerank")
@documented(json_answer(schemas.Ranking), request=_schema, headers=OF_A_MODEL, role="use")
def rerank_v1() -> Response:
    """Documents in the order in which they fit a query."""
    return _answer("1")


@blueprint.post("/v2/rerank")
@documented(json_answer(schemas.Ranking), request=_schema, headers=OF_A_MODEL, role="use")
def rerank_v2() -> Response:
    """The same, as Cohere's second version calls it."""
    return _answer("2")


def _answer(version: str) -> Response:
    body = json_body(_schema, empty="EOF")
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
    return json_response(
        {
            "id": new_id("rerank"),
            "object": "list",
            "model": body["model"],
            "results": results,
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
            "meta": {"api_version": {"version": version}, "tokens": {"input_tokens": num_tokens}},
        }
    )
