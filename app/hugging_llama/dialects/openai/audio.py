"""POST /v1/audio/transcriptions: read as Ollama reads it, and refused, as no model here can hear."""

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from hugging_llama.dialects.base import app_context, local_model
from hugging_llama.dialects.body_clock import BodyClock, socket_of
from hugging_llama.dialects.documented import documented
from hugging_llama.errors import BodyTooLargeError, BodyTooSlowError, InvalidRequestError, UnsupportedCapabilityError

blueprint = Blueprint("openai_audio", __name__)

_MAX_BYTES = 25 * 2**20
_TIMEOUTS = 4
"""The form is read in one go, so all of it has the time of so many pieces."""


@blueprint.post("/v1/audio/transcriptions")
@documented(body_type="multipart/form-data", role="use")
def transcriptions() -> Response:
    """The text of a recording. Every model is one that can't do this."""
    request.max_content_length = _MAX_BYTES
    if request.mimetype != "multipart/form-data":
        raise InvalidRequestError("failed to parse multipart form: request Content-Type isn't multipart/form-data")
    clock = BodyClock(socket_of(request.environ), _TIMEOUTS * app_context().settings.body_timeout_s)
    try:
        with clock:
            form, files = request.form, request.files
    except HTTPException as error:
        if clock.is_over:
            raise BodyTooSlowError from None
        if error.code == 413:
            raise BodyTooLargeError(_MAX_BYTES) from None
        raise InvalidRequestError(f"failed to parse multipart form: {error.description}") from None
    if clock.is_over:
        raise BodyTooSlowError
    name = form.get("model", "")
    if not name:
        raise InvalidRequestError("model is required", param="model")
    file = files.get("file")
    if file is None:
        raise InvalidRequestError("file is required: http: no such file", param="file")
    if not file.stream.read(1):
        raise InvalidRequestError("audio file is empty", param="file")
    local_model(name)
    raise UnsupportedCapabilityError(name, ["audio"])
