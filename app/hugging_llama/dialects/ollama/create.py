"""POST /api/create."""

import re
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, check_models, check_names, json_body, stream_response
from hugging_llama.dialects.body_fields import BodyField, Refused
from hugging_llama.dialects.documented import documented, json_answer, lines_of
from hugging_llama.dialects.json_body import go_kind
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama import fields, request_fields
from hugging_llama.dialects.ollama.answers import json_response, request_options
from hugging_llama.dialects.ollama.errors import JSON_PLAIN, NDJSON, endpoint_path, error_line
from hugging_llama.dialects.ollama.go_template import to_jinja
from hugging_llama.dialects.ollama.pull import render_progress
from hugging_llama.dialects.ollama.render import json_line
from hugging_llama.dialects.ollama.root import EMULATED_VERSION
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.messages import Message
from hugging_llama.operations.blobs import parse_digest
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

_OLD_FORM: Mapping[str, str] = {
    "modelfile": "send its lines as fields: from, files, adapters, template, system, parameters, messages, license",
    "path": "upload the files to /api/blobs and name them in `files`",
}
"""What early versions of the API had; alone it is a model that is made of nothing, as in Ollama."""
_DRAFTS = "guesses come from the prompt, see the option draft_num_predict"
_VERSION = re.compile(r"v?([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})")
_ROLES = ("system", "user", "assistant")


class TurnSchema(fields.GoSchema):
    """A turn that comes before those of every chat: a text, nothing else."""

    go_name = "Message"

    role = fields.GoString(load_default="", about="`system`, `user` or `assistant`.")
    content = fields.GoString(load_default="", about="What was said.")
    images = Refused("a message of a model is a text")
    tool_calls = Refused("a message of a model is a text")


class CreateSchema(fields.GoSchema):
    """The request body. `name` and `quantization` are older spellings of `model` and `quantize`.

    `adapters` is also the name of a LoRA's repository.
    """

    go_name = "CreateRequest"

    model = request_fields.model(must=False)
    name = request_fields.old_name()
    base = fields.GoString(data_key="from", load_default="", about="The model to make it from; pulled if need be.")
    files = fields.GoMap(load_default=None, about="Instead, uploaded files: the digests of blobs by path.")
    adapters = BodyField(
        load_default=None,
        schema={"type": ["object", "string"]},
        about="A LoRA adapter: digests of blobs by path, or its repository.",
    )
    quantize = fields.GoString(load_default="", about=f"{', '.join(f'`{name}`' for name in QUANTIZATIONS)}.")
    quantization = fields.GoString(load_default="", about="Older spelling of `quantize`.")
    parameters = request_fields.options("Options that every request of the model begins with.")
    template = fields.GoString(load_default="", about="In place of the base's: Jinja, or a Go template.")
    system = fields.GoString(load_default="", about="A system text.")
    license = BodyField(
        load_default=None,
        schema={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        about="A text or several.",
    )
    messages = fields.GoList(
        fields.GoStruct(TurnSchema), load_default=list, about="Turns that come before those of every chat."
    )
    requires = fields.GoString(load_default="", about="The least version of Ollama that the model needs.")
    stream = request_fields.stream()
    renderer = Refused("the chat template among the model's files, or `template`, is what renders a chat")
    parser = Refused("thinking and tool calls are told from the chat template")
    info = Refused("what is known of a model comes from its files", unless=({},))
    draft_files = Refused(_DRAFTS, unless=({},))
    draft_quantize = Refused(_DRAFTS)
    remote_host = Refused("models run on this server only")
    modelfile = BodyField(load_default=None, about=f"Not supported: {_OLD_FORM['modelfile']}.")
    path = BodyField(load_default=None, about=f"Not supported: {_OLD_FORM['path']}.")


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


def parse_create(body: Mapping[str, Any]) -> NewModel:
    """The model to make. Raises InvalidRequestError."""
    name = body["model"] or body["name"]
    if not name:
        raise InvalidRequestError("invalid model name", param="model")
    _check_base(body)
    for key, advice in _OLD_FORM.items():
        if body[key]:
            raise InvalidRequestError(f"{key} is not supported: {advice}", param=key)
    requires = _parse_requires(body["requires"])
    options = request_options(body["parameters"], "parameters")
    if options.unknown:
        raise InvalidRequestError(f"unknown parameter '{options.unknown[0][:80]}'", param="parameters")
    adapters = body["adapters"]
    return NewModel(
        name=name,
        base=body["base"],
        files=_parse_files(body["files"], "files"),
        adapter=adapters if isinstance(adapters, str) else "",
        adapter_files={} if isinstance(adapters, str) else _parse_files(adapters, "adapters"),
        quantization=parse_quantization(body["quantize"] or body["quantization"]),
        sampling=options.sampling,
        context_length=options.context_length,
        system=body["system"],
        template=to_jinja(body["template"]),
        messages=tuple(map(_parse_message, body["messages"])),
        licenses=_parse_licenses(body["license"]),
        requires=requires,
    )


def _check_base(body: Mapping[str, Any]) -> None:
    if body["base"] and body["files"]:
        raise InvalidRequestError("a model is made 'from' another one or of 'files', not of both", param="files")
    if not body["base"] and body["files"] == {}:
        raise InvalidRequestError("no files provided to convert", param="files")
    if not body["base"] and not body["files"]:
        raise InvalidRequestError("neither 'from' or 'files' was specified", param="from")


def _parse_files(files: Any, param: str) -> dict[str, str]:
    """sha256 by path; the paths are looked at where they are used."""
    if files is not None and not isinstance(files, dict):
        raise InvalidRequestError(
            f"json: cannot unmarshal {go_kind(files)} into Go struct field CreateRequest.{param} of type "
            "map[string]string",
            param=param,
        )
    if not all(isinstance(digest, str) for digest in (files or {}).values()):
        raise InvalidRequestError("invalid digest format", param=param)
    return {path: parse_digest(digest) for path, digest in (files or {}).items()}


def _parse_licenses(value: Any) -> tuple[str, ...]:
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequestError("license must be a text or a list of texts", param="license")
    return tuple(text for text in texts if text)


def _parse_message(body: Mapping[str, Any]) -> Message:
    role = body["role"].lower()
    if role not in _ROLES:
        raise InvalidRequestError('message role must be one of "system", "user", or "assistant"', param="messages")
    return Message(role=role, content=body["content"])


def _parse_requires(text: str) -> str:
    """The least version of Ollama that a model needs; we say which one we are compatible with."""
    if not text:
        return ""
    found = _VERSION.fullmatch(text)
    if not found:
        raise InvalidRequestError('requires must be a version such as "0.14.0"', param="requires")
    if tuple(map(int, found.groups())) > tuple(map(int, EMULATED_VERSION.split("."))):
        raise InvalidRequestError(
            f"the model requires version {text}, this server is compatible with {EMULATED_VERSION}", param="requires"
        )
    return text.removeprefix("v")


@blueprint.post("/api/create")
@documented(
    json_answer(schemas.Progress),
    lines_of(schemas.Progress, schemas.OllamaError),
    request=_schema,
    role="manage",
    audited="create",
)
def create() -> Response:
    """Make a named model of another one or of uploaded files; streams the progress unless `stream` is false."""
    body = json_body(_schema)
    new = parse_create(body)
    check_names(new.name)
    check_models(new.base, new.adapter)
    events = Watched(create_model(app_context(), new))
    if body["stream"]:
        return stream_response(
            events, lambda event: json_line(render_progress(event)), error_line(endpoint_path()), NDJSON
        )
    return json_response(render_progress(events.drain()[-1]), JSON_PLAIN)
