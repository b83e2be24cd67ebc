"""Schemas of tools' arguments drawn at random, with what people write at their top and in their properties."""

import random
from typing import Any

_NAMES = ("a", "from", "max-temp", "größe")
_TEXTS = ("x", "5", "true", "null", "a</parameter>b", "\nline", 'q"uote', "it's", "(a=1)", "{}", "")
_DEFS = {
    "word": {"enum": ["x", "y"]},
    "number": {"type": "integer", "minimum": 3, "maximum": 40},
    "node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}},
    "whole": {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"], "additionalProperties": False},
}


def random_parameters(rng: random.Random) -> dict[str, Any]:
    """Some can't be enforced in every format, and some allow nothing."""
    names = rng.sample(_NAMES, rng.choice([1, 1, 2, 3]))
    schema: dict[str, Any] = {"type": "object", "properties": {name: _value(rng, 2) for name in names}}
    if rng.random() < 0.8:
        schema["required"] = rng.sample(names, rng.randrange(len(names) + 1))
    if rng.random() < 0.6:
        schema["additionalProperties"] = rng.choice([False, False, False, True, {"type": "boolean"}])
    if rng.random() < 0.3:
        schema = rng.choice(_TOPS)(rng, schema, names)
    return {**schema, "$defs": _DEFS}


def _counted(rng: random.Random, schema: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {**schema, rng.choice(["minProperties", "maxProperties"]): rng.randrange(3)}


def _branched(rng: random.Random, schema: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {**schema, rng.choice(["anyOf", "oneOf", "allOf"]): [{"required": [name]} for name in names]}


def _parted(rng: random.Random, schema: dict[str, Any], names: list[str]) -> dict[str, Any]:
    more = {"properties": {"more": {"type": "boolean"}}, "required": ["more"]}
    return {"type": "object", "allOf": [schema, more]} if rng.random() < 0.5 else {"allOf": [schema]}


def _referring(rng: random.Random, schema: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {"$ref": "#/$defs/whole"} if rng.random() < 0.5 else {**schema, "$ref": "#/$defs/whole"}


def _depending(rng: random.Random, schema: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {**schema, rng.choice(["dependentRequired", "dependencies"]): {names[0]: names[-1:]}}


def _wanting(rng: random.Random, schema: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {**schema, "required": [*schema.get("required", ()), "elsewhere"]}


def _patterned(rng: random.Random, schema: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {**schema, "patternProperties": {"^a": {"type": "null"}}}


_TOPS = (_counted, _branched, _parted, _referring, _depending, _wanting, _patterned)


def _value(rng: random.Random, depth: int) -> Any:
    kinds = [_plain, _plain, _given, _given, _string, _number]
    if depth:
        kinds += [_branches, _branches, _array, _object, _reference]
    schema = rng.choice(kinds)(rng, depth - 1)
    if rng.random() < 0.2 and isinstance(schema, dict):
        schema = {"type": rng.choice(["string", "integer", "object", ["string", "null"]]), **schema}
    return {**schema, "title": "a note"} if rng.random() < 0.2 and isinstance(schema, dict) else schema


def _plain(rng: random.Random, depth: int) -> Any:
    kinds = rng.sample(["string", "integer", "number", "boolean", "null"], 2)
    return rng.choice([{}, True, {"type": "boolean"}, {"type": "string"}, {"type": kinds}, {"type": "null"}])


def _given(rng: random.Random, depth: int) -> Any:
    chosen = rng.sample([*_TEXTS, 5, 1, True, None, 2.5, ["l"], {"k": "</arg_value>"}], rng.randrange(1, 4))
    schema: dict[str, Any] = {"const": chosen[0]} if rng.random() < 0.3 else {"enum": chosen}
    return {**schema, "type": rng.choice(["string", "integer", ["string", "null"]])} if rng.random() < 0.3 else schema


def _string(rng: random.Random, depth: int) -> Any:
    extra: list[dict[str, Any]] = [
        {"minLength": 2},
        {"maxLength": 3},
        {"minLength": 1, "maxLength": 2},
        {"pattern": "^[ab]$"},
        {"format": "date"},
    ]
    return {"type": "string", **rng.choice(extra)}


def _number(rng: random.Random, depth: int) -> Any:
    extra: list[dict[str, Any]] = [
        {"minimum": 3},
        {"maximum": 9},
        {"exclusiveMinimum": 0, "maximum": 0.5},
        {"multipleOf": 5},
    ]
    return {"type": rng.choice(["integer", "number"]), **rng.choice(extra)}


def _branches(rng: random.Random, depth: int) -> Any:
    schema = {
        rng.choice(["anyOf", "anyOf", "oneOf", "allOf"]): [_value(rng, depth) for _ in range(rng.randrange(1, 4))]
    }
    return {**schema, "type": rng.choice(["string", "integer"])} if rng.random() < 0.2 else schema


def _array(rng: random.Random, depth: int) -> Any:
    schema: dict[str, Any] = {"type": "array", "items": _value(rng, depth), "maxItems": 2}
    extra: list[dict[str, Any]] = [{}, {"minItems": 1}, {"uniqueItems": rng.random() < 0.5}]
    return {**schema, **rng.choice(extra)}


def _object(rng: random.Random, depth: int) -> Any:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"k": _value(rng, depth)},
        "required": rng.choice([[], ["k"], ["q"]]),
    }
    if rng.random() < 0.5:
        schema[rng.choice(["minProperties", "maxProperties"])] = 1
    return {**schema, "additionalProperties": rng.choice([False, False, True, {"type": "null"}])}


def _reference(rng: random.Random, depth: int) -> Any:
    if rng.random() < 0.2:
        return {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
    return {"$ref": rng.choice(["#/$defs/word", "#/$defs/number", "#/$defs/node"])}
