"""The OpenAPI document of the routes that are there, made of what stands beside their views.

OpenAPI 3.2, the first version that can say what the items of a stream are (`itemSchema`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import resolve_schema_cls
from flask import Flask
from marshmallow import Schema, fields
from werkzeug.routing import Rule

from hugging_llama.dialects.anthropic.answer_schemas import AnthropicError
from hugging_llama.dialects.body_fields import BodyField
from hugging_llama.dialects.documented import SSE, Answer, Operation, operation_of
from hugging_llama.dialects.ollama.answer_schemas import OllamaError
from hugging_llama.dialects.openai.answer_schemas import OpenAIError
from hugging_llama.web.unknown_paths import rules_of

Json = dict[str, Any]
Ref = Callable[[Schema | type[Schema]], Json]

OPENAPI_VERSION = "3.2.0"
_PARAMETER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
_DIALECTS: Mapping[str, tuple[str, type[Schema]]] = {
    "ollama": ("Ollama", OllamaError),
    "openai": ("OpenAI", OpenAIError),
    "anthropic": ("Anthropic", AnthropicError),
}
_SERVER = "Server"
_TAGS: Mapping[str, str] = {
    "Ollama": "Ollama's API, and what is ours beside it.",
    "OpenAI": "OpenAI's API, at the same models.",
    "Anthropic": "Anthropic's Messages API, at the same models.",
    _SERVER: "The server itself.",
}
_IN_ALL: Mapping[str, str] = {
    "X-Request-ID": "The id of the request: the caller's own, or a new one.",
    "X-Ignored-Fields": "What of the request nothing was done with.",
}
_OF_ERRORS = ("Retry-After",)
_OF_ANTHROPIC = ("Request-Id",)
_IN_SOME: Mapping[str, str] = {
    "Request-Id": "The id of the request, where Anthropic's clients look for it.",
    "X-Truncated-Tokens": "How much of the prompt did not fit, and was dropped.",
    "X-Queue-Position": "Where the request has to wait: its place in the queue, 1 for the next one.",
    "X-Queue-Expected-Wait": "How many seconds it would probably wait there, if anybody knew.",
    "X-Queue-Wait": "How many seconds it has waited; absent from a stream that began while it still did.",
    "X-Freed-Bytes": "How many bytes of the disk are free again.",
    "Retry-After": "In how many seconds to ask again, where the server or the key has too much to do.",
}


def openapi_document(app: Flask, mount: str) -> Json:
    """All routes of one mount, as they are reached in the application."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    spec = APISpec(
        title="Hugging Llama",
        version=version("hugging-llama"),
        openapi_version=OPENAPI_VERSION,
        info={"description": "Ollama's, OpenAI's and Anthropic's APIs, powered by Hugging Face models."},
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        plugins=[plugin],
    )
    converter = plugin.converter
    assert converter is not None  # the APISpec has made it
    _read_our_fields(converter)
    for name, text in {**_IN_ALL, **_IN_SOME}.items():
        spec.components.header(name, {"description": text, "schema": {"type": "string"}})

    def ref(schema: Schema | type[Schema]) -> Json:
        return dict(converter.resolve_nested_schema(schema))  # type: ignore[no-untyped-call]

    for rule, view, operation in _operations(app, mount):
        spec.path(_PARAMETER.sub(r"{\1}", rule.rule), operations=_operation(rule, view, operation, ref))
        if operation.request is not None:
            _require(spec, operation.request)
    found: Json = spec.to_dict()
    return found


def _operations(app: Flask, mount: str) -> Iterator[tuple[Rule, Callable[..., Any], Operation]]:
    for rule in sorted(rules_of(mount, app.url_map), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        if (operation := operation_of(view)) is not None:
            yield rule, view, operation


def _operation(rule: Rule, view: Callable[..., Any], operation: Operation, ref: Ref) -> dict[str, Json]:
    methods = {method.lower() for method in rule.methods or ()} - {"options"}
    if len(methods) > 1:
        methods.discard("head")  # which every GET has
    tag, error = _dialect(view.__module__)
    summary, _, more = " ".join((view.__doc__ or "").split()).partition(". ")
    names = _PARAMETER.findall(rule.rule)
    found: Json = {
        "tags": [tag],
        "summary": summary.removesuffix("."),
        "operationId": f"{rule.endpoint.rpartition('.')[2]}_{'_'.join(sorted(methods))}_{tag.lower()}",
        "parameters": _parameters(names, operation),
        "responses": _responses(
            operation, ref, ref(error) if error else None, may_miss=bool(names), has_body=methods != {"head"}
        ),
    }
    _add_headers(found["responses"], operation, of_anthropic=tag == "Anthropic")
    if more:
        found["description"] = more
    if body := _request_body(operation, ref):
        found["requestBody"] = body
    return dict.fromkeys(methods, found)


def _dialect(module: str) -> tuple[str, type[Schema] | None]:
    """The tag of a view's module, and what its errors look like."""
    return _DIALECTS.get(module.removeprefix("hugging_llama.dialects.").partition(".")[0], (_SERVER, None))


def _parameters(names: list[str], operation: Operation) -> list[Json]:
    path: list[Json] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return path + [{"name": name, "in": "query", "schema": schema} for name, schema in (operation.query or {}).items()]


def _request_body(operation: Operation, ref: Ref) -> Json | None:
    if operation.request is not None:
        return {"required": True, "content": {"application/json": {"schema": ref(operation.request)}}}
    if operation.body_type:
        schema: Json = {} if operation.body_type == "application/octet-stream" else {"type": "object"}
        return {"required": True, "content": {operation.body_type: {"schema": schema}}}
    return None


def _responses(operation: Operation, ref: Ref, error: Json | None, *, may_miss: bool, has_body: bool) -> Json:
    found: Json = {}
    for answer in operation.answers:
        response = found.setdefault(str(answer.status), _response(answer.about))
        if answer.content_type:
            response.setdefault("content", {})[answer.content_type] = _content(answer, ref)
    content: Json = {"application/json": {"schema": error}} if error and has_body else {}
    # a path that no route takes has a page of plain text
    missed: Json = {"text/plain": {"schema": {"type": "string"}}} if may_miss and has_body else {}
    if content or missed or error:
        found["4XX"] = _response("The request can't be served as it is.", content | missed)
    if error:
        found["5XX"] = _response("The server can't serve it now, or has failed.", content)
    return found


def _response(about: str, content: Json | None = None) -> Json:
    response: Json = {"description": about, "headers": {name: name for name in _IN_ALL}}
    return response | ({"content": content} if content else {})


def _add_headers(responses: Json, operation: Operation, *, of_anthropic: bool) -> None:
    """Those that not all answers may have, in place."""
    for status, response in responses.items():
        of_status = operation.headers if status.startswith("2") else _OF_ERRORS if operation.role else ()
        names = (*of_status, *(_OF_ANTHROPIC if of_anthropic else ()))
        response["headers"] |= {name: name for name in names}


def _content(answer: Answer, ref: Ref) -> Json:
    schemas = [ref(schema) for schema in answer.schemas]
    if not schemas:
        return {}
    one = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    if answer.content_type == "application/json":
        return {"schema": one}
    if answer.content_type != SSE:
        return {"itemSchema": one}
    data: Json = {"type": "string", "contentMediaType": "application/json", "contentSchema": one}
    if answer.end:
        data = {"anyOf": [{"const": answer.end}, data]}
    return {"itemSchema": {"type": "object", "required": ["data"], "properties": {"data": data}}}


def _schema_name(schema: Any) -> str:
    cls: Any = resolve_schema_cls(schema)
    tag, _ = _dialect(cls.__module__)
    name = cls.__name__.removesuffix("Schema") + ("Request" if cls.__name__.endswith("Schema") else "")
    return str(name if name.startswith(tag) else tag + name)


def _require(spec: APISpec, schema: Schema) -> None:
    """Fields that a request must have although marshmallow does not ask for them."""
    named = spec.components.schemas[_schema_name(schema)]
    needed = [f.data_key or name for name, f in schema.fields.items() if isinstance(f, BodyField) and f.must]
    if needed:
        named["required"] = sorted(needed)


def _read_our_fields(converter: Any) -> None:
    """Teach apispec what our own fields take."""
    of_marshmallow = [converter.field2default, converter.field2nullable]
    converter.attribute_functions = [f for f in converter.attribute_functions if f not in of_marshmallow]

    def described(self: Any, field: fields.Field[Any], *, ret: Json) -> Json:
        if not isinstance(field, BodyField):
            nullable: Json = converter.field2nullable(field, ret=ret)
            return nullable
        schema = dict(field.json_schema(lambda nested: dict(self.resolve_nested_schema(nested))))
        if not field.must:
            schema = _or_null(schema)
        if field.about:
            schema["description"] = field.about
        default = field.load_default
        has_default = isinstance(default, str | bool | int | float) and default != ""
        return schema | ({"default": default} if has_default else {})

    converter.add_attribute_function(described)


def _or_null(schema: Json) -> Json:
    """The same, or null, which means absent in every dialect."""
    if "enum" in schema and None not in schema["enum"]:
        schema = schema | {"enum": [*schema["enum"], None]}
    if "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return schema | {"type": [*types, "null"]}
    if "anyOf" in schema:
        return schema | {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema
