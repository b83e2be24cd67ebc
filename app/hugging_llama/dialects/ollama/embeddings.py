"""POST /api/embeddings, which /api/embed has replaced: one text, one vector as long as the model made it."""

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_body, local_model
from hugging_llama.dialects.documented import OF_A_MODEL, documented, json_answer
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama import fields, request_fields, values
from hugging_llama.dialects.ollama.answers import json_response, request_options
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations import residency
from hugging_llama.operations.embedding import embed

blueprint = Blueprint("ollama_embeddings", __name__)


class EmbeddingsSchema(fields.GoSchema):
    """The request body."""

    go_name = "EmbeddingRequest"

    model = request_fields.model()
    prompt = fields.GoString(load_default="", about="A text; with none the model is loaded.")
    keep_alive = request_fields.keep_alive()
    options = request_fields.options("`num_ctx`, the length at which the text is cut.")


_schema = EmbeddingsSchema()


@blueprint.post("/api/embeddings")
@documented(json_answer(schemas.Embedding), request=_schema, headers=OF_A_MODEL, role="use")
def embeddings() -> Response:
    """A vector for a text, not normalised; with none, load the model."""
    body = json_body(_schema)
    if not body["model"]:
        raise InvalidRequestError("model is required", param="model")
    keep_alive_s = values.parse_keep_alive(body["keep_alive"])
    ctx = app_context()
    model = local_model(body["model"])
    context_length = request_options(body["options"]).context_length
    if not body["prompt"]:
        Watched(residency.load(ctx, model, keep_alive_s=keep_alive_s, context_length=context_length)).drain()
        return json_response({"embedding": []})
    found = embed(
        ctx,
        model,
        body["model"],
        [body["prompt"]],
        normalize=False,
        context_length=context_length,
        keep_alive_s=keep_alive_s,
    )
    return json_response({"embedding": Watched(found).drain()[0].vectors[0]})
