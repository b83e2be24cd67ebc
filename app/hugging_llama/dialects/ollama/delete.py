"""DELETE /api/delete."""

from flask import Blueprint, Response

from hugging_llama.dialects.base import SMALL_BODY_BYTES, app_context, check_models, empty_response, json_body
from hugging_llama.dialects.documented import documented, empty_answer
from hugging_llama.dialects.ollama import fields, request_fields
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations.removal import delete_model

blueprint = Blueprint("ollama_delete", __name__)

_FREED_BYTES = "X-Freed-Bytes"


class DeleteSchema(fields.GoSchema):
    """The request body; `name` is the older spelling of `model`."""

    go_name = "DeleteRequest"

    model = request_fields.model(must=False)
    name = request_fields.old_name()


_schema = DeleteSchema()


@blueprint.delete("/api/delete")
@documented(empty_answer(), request=_schema, headers=(_FREED_BYTES,), role="manage", audited="delete")
def delete() -> Response:
    """Delete a model from disk and memory; the answer has no body, a header says how many bytes went."""
    body = json_body(_schema, limit=SMALL_BODY_BYTES)
    name = body["model"] or body["name"]
    if not name:
        raise InvalidRequestError("model is required", param="model")
    check_models(name)
    freed_bytes = delete_model(app_context(), name)
    return empty_response(headers={_FREED_BYTES: str(freed_bytes)})
