"""POST /api/pull."""

from collections.abc import Iterator

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_payload, stream_response
from hugging_llama.dialects.ollama import fields
from hugging_llama.dialects.ollama.answers import json_response
from hugging_llama.dialects.ollama.errors import NDJSON, endpoint_path, error_line
from hugging_llama.dialects.ollama.render import Json, json_line
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.operations.transfer import pull_model

blueprint = Blueprint("ollama_pull", __name__)


class PullSchema(fields.GoSchema):
    """The request body; `name` is the older spelling of `model`."""

    go_name = "PullRequest"

    model = fields.GoString(load_default="")
    name = fields.GoString(load_default="")
    revision = fields.GoString(load_default=None)
    trust_remote_code = fields.GoBool(load_default=False)
    insecure = fields.GoBool(load_default=False)
    stream = fields.GoBool(load_default=True)


_schema = PullSchema()


class ClosablePull:
    """A pull that another greenlet may end: a running generator can't be closed, so it stops at its next event."""

    def __init__(self, progress: Iterator[TransferProgress]) -> None:
        self._progress = progress
        self._is_closed = False

    def __iter__(self) -> Iterator[TransferProgress]:
        return self

    def __next__(self) -> TransferProgress:
        if self._is_closed:
            raise StopIteration
        return next(self._progress)

    def close(self) -> None:
        self._is_closed = True


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
    }
    if progress.completed_bytes:
        shown["completed"] = progress.completed_bytes
    return shown


@blueprint.post("/api/pull")
def pull() -> Response:
    """Fetch a model from the Hub into the cache; streams progress unless `stream` is false."""
    body = _schema.parse(json_payload())
    progress = pull_model(
        app_context(),
        body["model"] or body["name"],
        revision=body["revision"],
        trust_remote_code=body["trust_remote_code"],
    )
    events = Watched(ClosablePull(progress))
    if body["stream"]:
        return stream_response(
            events, lambda event: json_line(render_progress(event)), error_line(endpoint_path()), NDJSON
        )
    return json_response(render_progress(events.drain()[-1]))
