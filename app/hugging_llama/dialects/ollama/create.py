"""POST /api/create."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import STREAM_HEADERS, app_context, json_payload
from hugging_llama.dialects.ollama import fields
from hugging_llama.dialects.ollama.answers import json_response, request_options
from hugging_llama.dialects.ollama.errors import JSON_PLAIN, NDJSON
from hugging_llama.dialects.ollama.pull import render_progress
from hugging_llama.dialects.ollama.render import json_line
from hugging_llama.errors import InvalidRequestError
from hugging_llama.operations.library import NewModel, Quantization, create_model

blueprint = Blueprint("ollama_create", __name__)

QUANTIZATIONS: Mapping[str, Quantization] = {
    "int8": "int8",
    "q8_0": "int8",
    "int4": "int4",
    "q4_0": "int4",
    "q4_1": "int4",
    "q4_k_m": "int4",
    "q4_k_s": "int4",
    "none": "none",
    "f16": "none",
    "bf16": "none",
}
"""Our names of quantizations, and Ollama's for what comes closest, in lower case; `none` keeps the weights exact."""

_NOT_YET = (
    "files",
    "adapters",
    "template",
    "license",
    "messages",
    "renderer",
    "parser",
    "requires",
    "info",
    "draft_files",
    "draft_quantize",
    "remote_host",
    "modelfile",
    "path",
)


class CreateSchema(fields.GoSchema):
    """The request body. `name` and `quantization` are older spellings of `model` and `quantize`."""

    go_name = "CreateRequest"

    model = fields.GoString(load_default="")
    name = fields.GoString(load_default="")
    base = fields.GoString(data_key="from", load_default="")
    quantize = fields.GoString(load_default="")
    quantization = fields.GoString(load_default="")
    parameters = fields.GoMap(load_default=dict)
    system = fields.GoString(load_default="")
    stream = fields.GoBool(load_default=True)


_schema = CreateSchema()


def parse_quantization(text: str) -> Quantization | None:
    """None where nothing is asked for. Raises InvalidRequestError with the list of what there is."""
    if not text:
        return None
    if found := QUANTIZATIONS.get(text.lower()):
        return found
    raise InvalidRequestError(
        f"unsupported quantization type {text.upper()[:40]} - supported types are {', '.join(QUANTIZATIONS)}",
        param="quantize",
    )


def parse_create(payload: Mapping[str, Any]) -> tuple[NewModel, bool]:
    """The model to make, and whether to stream the progress. Raises InvalidRequestError."""
    body = _schema.parse(payload)
    name = body["model"] or body["name"]
    if not name:
        raise InvalidRequestError("invalid model name", param="model")
    for key, value in payload.items():
        if value and key.lower() in _NOT_YET:
            raise InvalidRequestError(f"{key.lower()} is not supported by this version yet", param=key.lower())
    if not body["base"]:
        raise InvalidRequestError("neither 'from' or 'files' was specified", param="from")
    options = request_options(body["parameters"])
    if options.unknown:
        raise InvalidRequestError(f"unknown parameter '{options.unknown[0][:80]}'", param="parameters")
    new = NewModel(
        name=name,
        base=body["base"],
        quantization=parse_quantization(body["quantize"] or body["quantization"]),
        sampling=options.sampling,
        context_length=options.context_length,
        system=body["system"],
    )
    return new, body["stream"]


@blueprint.post("/api/create")
def create() -> Response:
    """Make a named model out of one that is here; streams the progress unless `stream` is false."""
    new, is_streamed = parse_create(json_payload())
    # takes no time worth waiting for, so that a failure anywhere still has its status
    events = [render_progress(progress) for progress in create_model(app_context(), new)]
    if is_streamed:
        lines = b"".join(json_line(event) for event in events)
        return Response(lines, mimetype=NDJSON, headers=STREAM_HEADERS)
    return json_response(events[-1], JSON_PLAIN)
