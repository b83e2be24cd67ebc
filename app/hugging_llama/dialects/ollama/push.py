"""POST /api/push."""

from flask import Blueprint, Response, request

from hugging_llama.dialects.base import SMALL_BODY_BYTES, Watched, app_context, check_models, json_body, stream_response
from hugging_llama.dialects.body_fields import Ignored
from hugging_llama.dialects.documented import documented, json_answer, lines_of
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama import fields, request_fields
from hugging_llama.dialects.ollama.answers import json_response
from hugging_llama.dialects.ollama.errors import JSON_PLAIN, NDJSON, endpoint_path, error_line
from hugging_llama.dialects.ollama.modelfile import Modelfile, parameters_of
from hugging_llama.dialects.ollama.render import Json, json_line
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.models import LocalModel
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.operations.push import push_model

blueprint = Blueprint("ollama_push", __name__)

TOKEN_HEADER = "X-HF-Token"
_HUB_TOKEN = "hf_"
_SHORT_DIGEST = 12


class PushSchema(fields.GoSchema):
    """The request body; `name` is the older spelling of `model`, `private` is ours, for a repository that is new."""

    go_name = "PushRequest"

    model = request_fields.model(must=False)
    name = request_fields.old_name()
    insecure = request_fields.insecure()
    stream = request_fields.stream()
    private = fields.GoBool(load_default=None, about="Ours: whether a repository that is new is private.")
    username = Ignored("the Hub knows tokens only")
    password = Ignored("the Hub knows tokens only")


_schema = PushSchema()


def render_progress(progress: TransferProgress) -> Json:
    """One object of the stream; `completed` is left out while it is 0."""
    if progress.status != "pushing":
        return {"status": progress.status}
    shown: Json = {
        "status": f"pushing {progress.digest[:_SHORT_DIGEST]}",
        "digest": f"sha256:{progress.digest}",
        "file": progress.file,
        "total": progress.total_bytes,
        "overall_total": progress.overall_total_bytes,
        "overall_completed": progress.overall_completed_bytes,
    }
    if progress.completed_bytes:
        shown["completed"] = progress.completed_bytes
    return shown


def render_modelfile(model: LocalModel) -> str:
    """The Modelfile that is pushed: what the model is made from and what its user said of it.

    A pushed adapter is a repository of its own, so that ADAPTER can name it.
    """
    own = dict(model.defaults.sampling)
    if model.defaults.context_length is not None:
        own["context_length"] = model.defaults.context_length
    quantization = model.ref.quantization
    return Modelfile(
        # where the server keeps its own models is nobody's business
        base=model.ref.name if model.parent.startswith("/") else model.parent or model.ref.name,
        adapter=model.ref.name if model.ref.adapter else "",
        template=model.defaults.template,
        system=model.defaults.system,
        parameters=parameters_of(own),
        licenses=model.licenses,
        messages=model.defaults.messages,
        requires=model.requires,
        note=f"For the same weights create it with --quantize {quantization}" if quantization else "",
    ).text()


def request_token() -> str:
    """The Hub's token in the request's headers, "" if there is none. A bearer that is no token of the Hub's is a key
    for somebody else, such as a proxy."""
    if token := request.headers.get(TOKEN_HEADER, "").strip():
        return token
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    value = value.strip()
    return value if scheme.lower() == "bearer" and value.startswith(_HUB_TOKEN) else ""


@blueprint.post("/api/push")
@documented(
    json_answer(schemas.Progress),
    lines_of(schemas.Progress, schemas.OllamaError),
    request=_schema,
    role="manage",
    audited="push",
)
def push() -> Response:
    """Push a named model to the Hub; streams progress unless `stream` is false."""
    body = json_body(_schema, limit=SMALL_BODY_BYTES)
    name = body["model"] or body["name"]
    if not name:
        raise InvalidRequestError("model is required", param="model")
    if body["insecure"]:
        raise InvalidRequestError(
            "insecure is not supported: the Hub's address is the operator's setting", param="insecure"
        )
    check_models(name)
    events = Watched(
        push_model(app_context(), name, request_token(), modelfile=render_modelfile, private=body["private"])
    )
    if body["stream"]:
        return stream_response(
            events, lambda event: json_line(render_progress(event)), error_line(endpoint_path()), NDJSON
        )
    return json_response(render_progress(events.drain()[-1]), JSON_PLAIN)
