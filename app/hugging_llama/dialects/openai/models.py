"""GET /v1/models, of OpenAI's clients and of Anthropic's."""

from datetime import UTC, datetime

from flask import Blueprint, Response, request

from hugging_llama.dialects.base import local_model, visible_models
from hugging_llama.dialects.documented import documented, json_answer
from hugging_llama.dialects.openai import answer_schemas as schemas
from hugging_llama.dialects.openai.answers import json_response
from hugging_llama.dialects.openai.render import Json
from hugging_llama.neutral.models import LocalModel

blueprint = Blueprint("openai_models", __name__)

_ANTHROPIC = "anthropic-version"
"""A header that all of Anthropic's clients send; both APIs have this one path, with other keys."""


def _model_json(model: LocalModel, name: str) -> Json:
    owner, slash, _ = model.ref.name.rpartition("/")
    found: Json = {
        "id": name,
        "object": "model",
        "created": int(model.modified_at_s),
        "owned_by": owner if slash else "library",
    }
    if _ANTHROPIC in request.headers:
        created_at = datetime.fromtimestamp(found["created"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found |= {"type": "model", "display_name": name, "created_at": created_at, "lifecycle": "active"}
    return found


@blueprint.get("/v1/models")
@documented(json_answer(schemas.ModelList), role="use")
def models() -> Response:
    """The models on disk, newest first; all of them, whatever the length of a page."""
    data = [_model_json(model, model.ref.name) for model in visible_models()]
    found: Json = {"object": "list", "data": data}
    if _ANTHROPIC in request.headers:
        ids = [model["id"] for model in data]
        found |= {"has_more": False, "first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return json_response(found)


@blueprint.get("/v1/models/<path:name>")
@documented(json_answer(schemas.Model), role="use")
def model(name: str) -> Response:
    """One of them; names of the Hub hold a slash."""
    return json_response(_model_json(local_model(name), name))
