"""POST /api/pull."""

from flask import Blueprint, Response

from hugging_llama.dialects.base import SMALL_BODY_BYTES, Watched, app_context, check_models, json_body, stream_response
from hugging_llama.dialects.body_fields import Ignored
from hugging_llama.dialects.documented import documented, json_answer, lines_of
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama import fields, request_fields
from hugging_llama.dialects.ollama.answers import json_response
from hugging_llama.dialects.ollama.errors import JSON_PLAIN, NDJSON, endpoint_path, error_line
from hugging_llama.dialects.ollama.render import Json, json_line
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.operations.transfer import pull_model

blueprint = Blueprint("ollama_pull", __name__)


class PullSchema(fields.GoSchema):
    """The request body; `name` is the older spelling of `model`."""

    go_name = "PullRequest"

    model = request_fields.model(must=False)
    name = request_fields.old_name()
    revision = fields.GoString(load_default=None, about="Ours: a branch, tag or commit.")
    trust_remote_code = fields.GoBool(
        load_default=False, about="Ours: fetch the repository's own code, too, where the operator allows it."
    )
    insecure = request_fields.insecure()
    stream = request_fields.stream()
    username = Ignored("the Hub knows tokens only")
    password = Ignored("the Hub knows tokens only")


_schema = PullSchema()


def render_progress(progress: TransferProgress) -> Json:
    """One object of the stream; `completed` is left out while it is 0."""
    if progress.status != "downloading":
        return {"status": progress.status} | ({"digest": ""} if progress.status == "pulling manifest" else {})
    kind = "sha256" if len(progress.digest) == 64 else "sha1"
    shown: Json = {
        "status": progress.status,
        "path": progress.path,
        "file": progress.file,
        "digest": f"{kind}:{progress.digest}",
        "total": progress.total_bytes,
        "overall_total": progress.overall_total_bytes,
        "overall_completed": progress.overall_completed_bytes,
    }
    if progress.completed_bytes:
        shown["completed"] = progress.completed_bytes
    return shown


@blueprint.post("/api/pull")
@documented(
    json_answer(schemas.Progress),
    lines_of(schemas.Progress, schemas.OllamaError),
    request=_schema,
    role="manage",
    audited="pull",
)
def pull() -> Response:
    """Fetch a model from the Hub into the cache; streams progress unless `stream` is false."""
    body = json_body(_schema, limit=SMALL_BODY_BYTES)
    name = body["model"] or body["name"]
    if not name:
        raise InvalidRequestError("invalid model name", param="model")
    if body["insecure"]:
        raise InvalidRequestError(
            "insecure is not supported: the Hub's address is the operator's setting", param="insecure"
        )
    check_models(name)
    progress = pull_model(
        app_context(),
        name,
        body["revision"],
        trust_remote_code=body["trust_remote_code"],
    )
    events = Watched(progress)
    if body["stream"]:
        return stream_response(
            events, lambda event: json_line(render_progress(event)), error_line(endpoint_path()), NDJSON
        )
    return json_response(render_progress(events.drain()[-1]), JSON_PLAIN)
