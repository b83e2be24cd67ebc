"""JSON Schemas drawn at random from the keywords that people use, sensible or not."""

import random
from typing import Any

_PATTERNS = ("^[a-z]{1,4}$", "[0-9]", "^(a|b)+$", "^x?y", "^[A-Z][a-z]*$")
_FORMATS = ("date", "date-time", "uuid", "ipv4", "email")
_NAMES = ("a", "b", "name", "größe", 'qu"ote', "x y", "")
_VALUES = (0, 1, -7, 2.5, True, None, "text", 'esc"aped\n', ["l", 1], {"k": None})


def random_schema(rng: random.Random, depth: int = 3) -> Any:
    """Nested at most `depth` levels; some can't be enforced and some allow nothing."""
    kinds = ["string", "integer", "number", "value", "plain"]
    if depth:
        kinds += ["object", "object", "array", "any", "all", "one", "types"]
    return _MAKERS[rng.choice(kinds)](rng, depth - 1)


def _maybe(rng: random.Random, schema: dict[str, Any], key: str, value: Any, chance: float = 0.3) -> None:
    if rng.random() < chance:
        schema[key] = value


def _string(rng: random.Random, depth: int) -> Any:
    schema: dict[str, Any] = {"type": "string"}
    _maybe(rng, schema, "minLength", rng.randrange(5))
    _maybe(rng, schema, "maxLength", rng.randrange(1, 9), 0.6)
    _maybe(rng, schema, "pattern", rng.choice(_PATTERNS), 0.2)
    _maybe(rng, schema, "format", rng.choice(_FORMATS), 0.15)
    return schema


def _number(kind: str) -> Any:
    def make(rng: random.Random, depth: int) -> Any:
        schema: dict[str, Any] = {"type": kind}
        low = rng.choice([-50, -1, 0, 3, 0.5]) if kind == "number" else rng.randrange(-50, 50)
        _maybe(rng, schema, rng.choice(["minimum", "exclusiveMinimum"]), low, 0.7)
        _maybe(rng, schema, rng.choice(["maximum", "exclusiveMaximum"]), low + rng.randrange(1, 2000), 0.7)
        _maybe(rng, schema, "multipleOf", rng.choice([2, 3, 10, 25]), 0.2)
        return schema

    return make


def _value(rng: random.Random, depth: int) -> Any:
    chosen = rng.sample(_VALUES, rng.randrange(1, 5))
    return {"const": chosen[0]} if rng.random() < 0.3 else {"enum": chosen}


def _plain(rng: random.Random, depth: int) -> Any:
    return rng.choice([{"type": "boolean"}, {"type": "null"}, {"type": "string", "maxLength": 3}])


def _object(rng: random.Random, depth: int) -> Any:
    names = rng.sample(_NAMES, rng.randrange(1, 5))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: random_schema(rng, depth) for name in names},
        "required": rng.sample(names, rng.randrange(len(names) + 1)),
        "additionalProperties": rng.choice([False, False, False, {"type": "boolean"}]),
    }
    if schema["additionalProperties"]:
        schema["maxProperties"] = len(names) + 1
    _maybe(rng, schema, "title", "a title", 0.2)
    return schema


def _array(rng: random.Random, depth: int) -> Any:
    least = rng.randrange(3)
    schema: dict[str, Any] = {
        "type": "array",
        "items": random_schema(rng, depth),
        "minItems": least,
        "maxItems": least + rng.randrange(3),
    }
    _maybe(rng, schema, "prefixItems", [random_schema(rng, depth) for _ in range(rng.randrange(1, 3))], 0.2)
    _maybe(rng, schema, "uniqueItems", True, 0.05)
    return schema


def _branches(key: str) -> Any:
    def make(rng: random.Random, depth: int) -> Any:
        return {key: [random_schema(rng, depth) for _ in range(rng.randrange(1, 4))]}

    return make


def _types(rng: random.Random, depth: int) -> Any:
    return {"type": rng.sample(["boolean", "null", "integer"], 2)}


_MAKERS = {
    "string": _string,
    "integer": _number("integer"),
    "number": _number("number"),
    "value": _value,
    "plain": _plain,
    "object": _object,
    "array": _array,
    "any": _branches("anyOf"),
    "all": _branches("allOf"),
    "one": _branches("oneOf"),
    "types": _types,
}
