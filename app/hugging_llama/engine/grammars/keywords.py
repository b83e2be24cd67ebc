"""A JSON Schema's keywords, read one by one from what strangers send. All raise GrammarError for the wrong shape."""

import math
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from hugging_llama.errors import GrammarError
from hugging_llama.parsing.json_kinds import options

KINDS = ("array", "boolean", "integer", "null", "number", "object", "string")
DEFINITIONS = ("$defs", "definitions")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
MAPS = ("properties", "patternProperties", "dependentSchemas", *DEFINITIONS)
_SINGLE = ("additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
KEYWORDS = frozenset(
    {*_LISTS, *MAPS, *_SINGLE, "$ref", "$dynamicRef", "$recursiveRef", "type", "enum", "const", "required", "format"}
    | {"dependentRequired", "dependencies", "exclusiveMaximum", "exclusiveMinimum", "maxContains", "maximum"}
    | {"maxItems", "maxLength", "maxProperties", "minContains", "minimum", "minItems", "minLength", "minProperties"}
    | {"multipleOf", "pattern", "unevaluatedItems", "unevaluatedProperties", "uniqueItems", "x-guidance"}
)
"""What asks for something; all else is a note to the reader, as JSON Schema has it."""


def asked(schema: Mapping[str, Any]) -> set[str]:
    """The keywords by which a value may be invalid, definitions apart."""
    found = {key for key in schema if key in KEYWORDS and key not in DEFINITIONS}
    return {key for key in found if key == "const" or schema[key] is not None}


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas right within this one, each with the keyword that it stands under."""
    for key in _LISTS:
        yield from ((key, branch) for branch in listed(schema, key))
    for key in MAPS:
        yield from ((key, each) for each in mapped(schema, key).values())
    for key in _SINGLE:
        if key in schema:
            yield key, schema[key]


def listed(schema: Mapping[str, Any], key: str) -> list[Any]:
    """The schemas under a keyword that lists some, [] without it."""
    found = schema.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not found:
        raise GrammarError(f"{key} must be a list of schemas")
    return found


def mapped(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The schemas under a keyword that names some, {} without it."""
    found = schema.get(key)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise GrammarError(f"{key} must be an object of schemas")
    return found


def required_of(schema: Mapping[str, Any]) -> list[str]:
    """The names of the properties that must be there, each once."""
    found = schema.get("required")
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise GrammarError("required must be a list of names")
    return list(dict.fromkeys(found))


def count_of(schema: Mapping[str, Any], key: str) -> int | None:
    """A number of things, None without the keyword."""
    found = schema.get(key)
    if found is None:
        return None
    if (
        isinstance(found, bool)
        or not isinstance(found, int | float)
        or (isinstance(found, float) and not math.isfinite(found))
        or found < 0
        or found % 1
    ):
        raise GrammarError(f"{key} must be a whole number from 0 on")
    return int(found)


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """What `type` says, [] without it."""
    found = schema.get("type")
    kinds = [] if found is None else [found] if isinstance(found, str) else found
    if not isinstance(kinds, list) or (found is not None and not kinds):
        raise GrammarError("type must be a type's name or a list of them")
    for kind in kinds:
        if kind not in KINDS:
            raise GrammarError(f"there is no type {str(kind)[:40]!r}")
    return kinds


def options_of(schema: Mapping[str, Any]) -> list[Any] | None:
    """The values that `enum`, `const` and `type` leave; None without the first two."""
    if "enum" in schema and (not isinstance(schema["enum"], list) or not schema["enum"]):
        raise GrammarError("enum must be a list of values")
    found = options(schema)
    if found == []:
        raise GrammarError("no value of its enum or const is of its type")
    return found


def resolved(root: Mapping[str, Any], target: Any) -> Any:
    """What `$ref` refers to."""
    if not isinstance(target, str) or not (target == "#" or target.startswith("#/")):
        raise GrammarError(f"it refers to {str(target)[:80]}, a schema elsewhere")
    found: Any = root
    for part in target.removeprefix("#").split("/")[1:]:
        part = unquote(part).replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or part not in found:
            raise GrammarError(f"it refers to {target[:80]}, which is not there")
        found = found[part]
    return found
