"""The schema of a tool's arguments with its properties in sight: references and allOf at its top are put together."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from hugging_llama.engine.grammars.json_schemas import prepared
from hugging_llama.engine.grammars.keywords import DEFINITIONS, asked, listed, mapped, required_of, resolved
from hugging_llama.errors import GrammarError
from hugging_llama.neutral.messages import Tool
from hugging_llama.neutral.requests import ChatPrompt, GenerateRequest

_MOST_OPENED = 2000
_LONGEST_CHAIN = 100
_KEYS_A_STEP = 64
_MERGED = {"type", "properties", "required"}


@contextmanager
def told_of(tool: Tool) -> Iterator[None]:
    """What is raised within says which tool it is about."""
    try:
        yield
    except GrammarError as error:
        raise GrammarError(f"the tool {tool.name[:80]!r} can't be enforced: {error}") from error
    except RecursionError as error:
        raise GrammarError(f"the tool {tool.name[:80]!r} can't be enforced: its parameters refer too deep") from error


def parameters_of(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments; what it says nothing about is not allowed where it names any properties.

    Raises GrammarError.
    """
    schema = prepared(flat_parameters({key: value for key, value in tool.parameters.items() if value is not None}))
    if schema["type"] != "object":
        raise GrammarError("its parameters are no object")
    if (missing := _missing(schema)) and schema.get("additionalProperties") is False:
        raise GrammarError(f"{missing[0][:80]!r} in `required` is none of its properties")
    if "additionalProperties" not in schema and not _is_elsewhere(schema):
        schema["additionalProperties"] = False
    return schema


def flat_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters` with a `type`, and the properties that stand behind `$ref` and in `allOf`, as far as these can be
    put together. Raises GrammarError for references to nothing."""
    parts = list(islice(_parts(parameters, parameters, ()), _MOST_OPENED))
    if len(parts) == _MOST_OPENED:
        raise GrammarError("its parameters have too many parts")
    asking = [part for part in parts if asked(part) - {"type"}]
    found = {key: value for key, value in parameters.items() if key not in ("$ref", "allOf")}
    if len(asking) <= 1:
        found |= asking[0] if asking else {}
    elif all(asked(part) <= _MERGED for part in asking):
        found["properties"], found["required"] = _joined_properties(asking), []
        for part in asking:
            found["required"] += [name for name in required_of(part) if name not in found["required"]]
    else:
        return {"type": "object", **parameters}
    found |= {key: parameters[key] for key in DEFINITIONS if key in parameters}
    kinds = [part["type"] for part in parts if part.get("type", "object") != "object"]
    found["type"] = kinds[0] if kinds else "object"
    others = found.get("additionalProperties")
    if others is not False and (missing := _missing(found)):
        added = dict.fromkeys(missing, others if isinstance(others, Mapping) else {})
        found["properties"] = {**mapped(found, "properties"), **added}
    return found


def _missing(schema: Mapping[str, Any]) -> list[str]:
    """Names of `required` that nothing else names."""
    if mapped(schema, "patternProperties"):
        return []
    return [name for name in required_of(schema) if name not in mapped(schema, "properties")]


def opened_properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of flat parameters with what they refer to in its place, at their tops and in the branches of
    anyOf and oneOf; as it is beyond so many references."""
    left = [_MOST_OPENED]
    return {name: _opened(each, schema, (), left) for name, each in mapped(schema, "properties").items()}


def tool_schemas(request: GenerateRequest) -> dict[str, Mapping[str, Any]]:
    """What the arguments of calls are read by: parameters with open properties, as far as these make sense."""
    tools = request.prompt.tools if isinstance(request.prompt, ChatPrompt) else ()
    return {tool.name: readable(tool.parameters) for tool in tools}


def readable(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """`parameters` as readers of bare texts want them: what they refer to stands in its place."""
    try:
        flat = flat_parameters(parameters)
        return {**flat, "properties": opened_properties(flat)}
    except (GrammarError, RecursionError):
        return parameters


def _parts(schema: Any, root: Mapping[str, Any], passed: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """The schemas that all apply to one value."""
    if not isinstance(schema, Mapping):
        raise GrammarError("a part of its parameters is no object")
    yield {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
    if (target := schema.get("$ref")) is not None:
        if target in passed or len(passed) > _LONGEST_CHAIN:
            raise GrammarError(f"{str(target)[:80]} refers to itself")
        yield from _parts(resolved(root, target), root, (*passed, target))
    for branch in listed(schema, "allOf"):
        yield from _parts(branch, root, passed)


def _joined_properties(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in parts:
        for name, schema in mapped(part, "properties").items():
            found[name] = {"allOf": [found[name], schema]} if name in found and found[name] != schema else schema
    return found


def _is_elsewhere(schema: Mapping[str, Any]) -> bool:
    """Whether properties may be named by parts of it, so that it does not know all of them."""
    branches = [branch for key in ("allOf", "anyOf", "oneOf") for branch in listed(schema, key)]
    return bool(asked(schema) & {"$ref", "if", "dependentSchemas"}) or any(
        isinstance(branch, Mapping) and asked(branch) - {"type", "required"} for branch in branches
    )


def _opened(schema: Any, root: Mapping[str, Any], passed: tuple[str, ...], left: list[int]) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    keys = asked(schema)
    left[0] -= bool(keys & {"$ref", "allOf", "anyOf", "oneOf"}) + len(schema) // _KEYS_A_STEP
    if left[0] < 0:
        return schema
    if keys == {"$ref"} and schema["$ref"] not in passed and len(passed) < _LONGEST_CHAIN:
        notes = {key: value for key, value in schema.items() if key != "$ref" and key not in DEFINITIONS}
        found = resolved(root, schema["$ref"])
        return _opened(
            {**found, **notes} if isinstance(found, Mapping) else found, root, (*passed, schema["$ref"]), left
        )
    if keys == {"allOf"} and len(listed(schema, "allOf")) == 1 and isinstance(schema["allOf"][0], Mapping):
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        return _opened({**schema["allOf"][0], **rest}, root, passed, left)
    branches = {
        key: [_opened(branch, root, passed, left) for branch in listed(schema, key)]
        for key in ("anyOf", "oneOf")
        if key in keys
    }
    return {**schema, **branches} if branches else schema
