"""POST /api/copy."""

from flask import Blueprint, Response

from hugging_llama.dialects.base import (
    SMALL_BODY_BYTES,
    app_context,
    check_models,
    check_names,
    empty_response,
    json_body,
)
from hugging_llama.dialects.documented import documented, empty_answer
from hugging_llama.dialects.ollama import fields
from hugging_llama.operations.removal import copy_model

blueprint = Blueprint("ollama_copy", __name__)


class CopySchema(fields.GoSchema):
    """The request body."""

    go_name = "CopyRequest"

    source = fields.GoString(load_default="", must=True, about="A model that is here.")
    destination = fields.GoString(load_default="", must=True, about="Its other name.")


_schema = CopySchema()


@blueprint.post("/api/copy")
@documented(empty_answer(), request=_schema, role="manage", audited="copy")
def copy() -> Response:
    """Give a model another name; the answer is its status alone."""
    body = json_body(_schema, limit=SMALL_BODY_BYTES)
    check_models(body["source"])
    check_names(body["destination"])
    copy_model(app_context(), body["source"], body["destination"])
    return empty_response()
