"""GET /v1/models and /v1/models/{model}."""

from flask import Blueprint, Response

from hugging_llama.dialects.base import app_context, local_model
from hugging_llama.dialects.documented import documented, json_answer
from hugging_llama.dialects.openai import answer_schemas as schemas
from hugging_llama.dialects.openai.answers import json_response
from hugging_llama.dialects.openai.render import Json
from hugging_llama.neutral.models import LocalModel
from hugging_llama.operations.models import list_models

blueprint = Blueprint("openai_models", __name__)


def _model_json(model: LocalModel, name: str) -> Json:
    owner, slash, _ = model.ref.name.rpartition("/")
    return {
        "id": name,
        "object": "model",
        "created": int(model.modified_at_s),
        "owned_by": owner if slash else "library",
    }


@blueprint.get("/v1/models")
@documented(json_answer(schemas.ModelList))
def models() -> Response:
    """The models on disk, newest first."""
    return json_response(
        {"object": "list", "data": [_model_json(model, model.ref.name) for model in list_models(app_context())]}
    )


@blueprint.get("/v1/models/<path:name>")
@documented(json_answer(schemas.Model))
def model(name: str) -> Response:
    """One of them; names of the Hub hold a slash."""
    return json_response(_model_json(local_model(name), name))
