"""HEAD and POST /api/blobs/<digest>: files to make models of, as raw bytes."""

from flask import Blueprint, Response, after_this_request, request

from hugging_llama.dialects.base import app_context, empty_response
from hugging_llama.dialects.documented import documented, empty_answer
from hugging_llama.dialects.ollama.answers import json_response
from hugging_llama.dialects.ollama.errors import JSON
from hugging_llama.dialects.upload import Upload
from hugging_llama.operations.blobs import has_blob, receive_blob

blueprint = Blueprint("ollama_blobs", __name__)

_PUT_AWAY_BYTES = 64 * 2**20
"""How much of a body that is refused is read: a client that sends all before it reads shall see the answer."""


@blueprint.route("/api/blobs/<digest>", methods=["HEAD"])
@documented(empty_answer(about="It is here."), role="manage")
def find(digest: str) -> Response:
    """Whether the content is here."""
    if has_blob(app_context(), digest):
        return empty_response()
    response = json_response({"error": f'blob "{digest}" not found'}, JSON)
    response.status_code = 404
    return response


@blueprint.post("/api/blobs/<digest>")
@documented(
    empty_answer(201, "It is kept."),
    empty_answer(200, "It was here already."),
    body_type="application/octet-stream",
    role="manage",
    audited="upload",
)
def receive(digest: str) -> Response:
    """Keep the body if its sha256 is the one in the path: 201, or 200 if it was here already."""
    # itself, as the rest is put away when nothing stands for it any more
    upload = Upload(request._get_current_object(), app_context().settings.body_timeout_s)  # type: ignore[attr-defined]

    @after_this_request
    def _put_away(response: Response) -> Response:
        # what is here already was sent in good faith
        upload.put_away(
            response, app_context().settings.max_blob_bytes if response.status_code < 300 else _PUT_AWAY_BYTES
        )
        return response

    return empty_response(201 if receive_blob(app_context(), digest, upload.read, upload.size_bytes) else 200)
