"""GET /api/ps."""

from flask import Blueprint, Response

from hugging_llama.dialects.base import app_context, may_name
from hugging_llama.dialects.documented import documented, json_answer
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama.answers import json_response
from hugging_llama.dialects.ollama.clock import timestamp
from hugging_llama.dialects.ollama.details import details_json
from hugging_llama.dialects.ollama.render import Json
from hugging_llama.neutral.models import LoadedModel, ModelDetails
from hugging_llama.operations.residency import loaded_details, loaded_models

blueprint = Blueprint("ollama_ps", __name__)


def render_loaded_model(model: LoadedModel, found: ModelDetails | None) -> Json:
    """One entry of `models`: Ollama's eight keys, then ours. `found` is None if the files are gone by now."""
    details: Json = {"parent_model": "", "families": None}
    if found:
        details = details_json(found, level=found.quantization_level, with_lengths=False)
    details |= {"device": model.device, "dtype": model.dtype, "runner": model.runner}
    details |= {"runner_reason": model.runner_reason, "linear": model.linear}
    if model.quantization != "none":
        details["quantization_level"] = model.quantization.upper()
    return {
        "name": model.name,
        "model": model.name,
        "size": model.size_bytes,
        "digest": model.digest,
        "details": details,
        "expires_at": timestamp(model.expires_at_s),
        "size_vram": min(model.size_vram_bytes, model.size_bytes),
        "context_length": model.context_length,
        "ref_count": model.ref_count,
    }


@blueprint.get("/api/ps")
@documented(json_answer(schemas.Ps), role="use")
def ps() -> Response:
    """The models in memory, the one that stays longest first."""
    ctx = app_context()
    shown = [model for model in loaded_models(ctx) if may_name(model.name)]
    return json_response({"models": [render_loaded_model(model, loaded_details(ctx, model)) for model in shown]})
