"""GET /api/tags, and its deprecated alias /api/models."""

from flask import Blueprint, Response, request

from hugging_llama.dialects.base import visible_models
from hugging_llama.dialects.documented import documented, json_answer
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama.answers import json_response
from hugging_llama.dialects.ollama.clock import timestamp
from hugging_llama.dialects.ollama.details import details_json
from hugging_llama.dialects.ollama.render import Json
from hugging_llama.neutral.models import LocalModel

blueprint = Blueprint("ollama_tags", __name__)


def render_local_model(model: LocalModel) -> Json:
    """One entry of `models`."""
    return {
        "name": model.ref.name,
        "model": model.ref.name,
        "modified_at": timestamp(model.modified_at_s),
        "size": model.size_bytes,
        "digest": model.ref.digest,
        "details": details_json(model.details, level=model.quantization_level, parent=model.parent, with_lengths=True),
        "capabilities": [capability.value for capability in model.capabilities],
    }


@blueprint.get("/api/tags")
@documented(json_answer(schemas.Tags), role="use")
def tags() -> Response:
    """The models on disk, newest first."""
    return json_response({"models": [render_local_model(model) for model in visible_models()]})


@blueprint.get("/api/models")
@documented(json_answer(schemas.Tags), role="use")
def models() -> Response:
    """The name that early versions of the API had for /api/tags."""
    response = tags()
    response.headers["Deprecation"] = "true"
    successor = request.root_path + request.path.removesuffix("models") + "tags"
    response.headers["Link"] = f'<{successor}>; rel="successor-version"'
    return response
