"""JSON Schemas of every keyword that is enforced, for tests that let random models write."""

# ruff: noqa: E501

from typing import Any

NODE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["value", "next"],
    "additionalProperties": False,
}

SCHEMAS: dict[str, dict[str, Any]] = {
    "empty": {},
    "object": {"type": "object"},
    "string": {"type": "string"},
    "boolean or null": {"type": ["boolean", "null"]},
    "enum of many types": {"enum": ["red", "gr\"een", 3, 2.5, None, True, {"a": [1]}, [1, "x"]]},
    "const": {"const": {"kind": "fixed", "list": [1, 2]}},
    "required and optional": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "boolean"}},
        "required": ["b"],
        "additionalProperties": False,
    },
    "additional of a type": {
        "type": "object",
        "properties": {"a": {"const": 1}},
        "required": ["a"],
        "additionalProperties": {"type": "integer"},
    },
    "nested": {
        "type": "object",
        "properties": {
            "people": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0}},
                    "required": ["name", "age"],
                    "additionalProperties": False,
                },
                "minItems": 1,
                "maxItems": 3,
            }
        },
        "required": ["people"],
        "additionalProperties": False,
    },
    "array of arrays": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}, "maxItems": 2},
    "prefix items": {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"type": "string", "maxLength": 3}],
        "items": {"type": "boolean"},
        "minItems": 2,
        "maxItems": 4,
    },
    "recursion": {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    "definitions": {
        "type": "object",
        "properties": {"p": {"$ref": "#/definitions/point"}},
        "required": ["p"],
        "additionalProperties": False,
        "definitions": {"point": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}},
    },
    "any of": {"anyOf": [{"type": "integer", "minimum": 5}, {"type": "string", "maxLength": 2}, {"type": "null"}]},
    "one of, apart": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}},
                "required": ["kind", "x"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"kind": {"const": "b"}, "y": {"type": "string"}},
                "required": ["kind", "y"],
                "additionalProperties": False,
            },
        ]
    },
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]},
            {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}, "b": {"type": "boolean"}}, "required": ["b"]},
        ]
    },
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,5}$"},
    "pattern, not anchored": {"type": "string", "pattern": "[0-9]{2}", "maxLength": 12},
    "lengths": {"type": "string", "minLength": 2, "maxLength": 5},
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time"},
    "email": {"type": "string", "format": "email"},
    "uuid": {"type": "string", "format": "uuid"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "uri": {"type": "string", "format": "uri"},
    "integer bounds": {"type": "integer", "minimum": -17, "maximum": 250},
    "exclusive bounds": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
    "exclusive bounds, close": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
    "exclusive bounds, close and high": {"type": "number", "exclusiveMinimum": 10, "maximum": 10.75},
    "exclusive bounds, close and below": {"type": "number", "minimum": -1.5, "exclusiveMaximum": -1},
    "exclusive bounds, both": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.9, "minimum": -1},
    "exclusive bounds, apart": {"allOf": [{"type": "number", "exclusiveMinimum": 0}, {"maximum": 0.5}]},
    "nothing unique asked": {"type": "array", "uniqueItems": False, "items": {"type": "null"}, "maxItems": 3},
    "number bounds": {"type": "number", "minimum": 0.25, "maximum": 1.75},
    "multiple of": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 700},
    "pattern properties": {
        "type": "object",
        "patternProperties": {"^n_[a-z]{1,4}$": {"type": "integer"}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 3,
    },
    "keys with escapes": {
        "type": "object",
        "properties": {"a\"b": {"type": "integer"}, "ü\n": {"type": "boolean"}},
        "required": ["a\"b", "ü\n"],
        "additionalProperties": False,
    },
    "annotations": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "T",
        "description": "d",
        "type": "object",
        "properties": {"a": {"type": "integer", "title": "A", "default": 3, "examples": [1]}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "order of keys": {
        "type": "object",
        "properties": {"z": {"type": "integer"}, "m": {"type": "integer"}, "a": {"type": "integer"}},
        "required": ["a", "m", "z"],
        "additionalProperties": False,
    },
}  # fmt: skip


def _nested(depth: int) -> dict[str, Any]:
    return {"a": _nested(depth - 1)} if depth else {}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "not": ({"not": {"type": "string"}}, "not"),
    "unique items": ({"type": "array", "uniqueItems": True}, "uniqueItems"),
    "contains": ({"type": "object", "properties": {"a": {"type": "array", "contains": {}}}}, "contains"),
    "if": ({"if": {"type": "string"}, "then": {"minLength": 2}}, "if"),
    "dependent": ({"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired"),
    "property names": ({"type": "object", "propertyNames": {"pattern": "^a"}}, "propertyNames"),
    "unevaluated": ({"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties"),
    "look-around": ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    "format": ({"type": "string", "format": "colour"}, "colour"),
    "one of, overlapping": ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}, "oneOf"),
    "type": ({"type": "bogus"}, "bogus"),
    "reference into nothing": ({"$ref": "#/$defs/nobody"}, "nobody"),
    "reference to elsewhere": ({"$ref": "http://127.0.0.1:1/x.json"}, "127.0.0.1"),
    "depth": ({"properties": _nested(120)}, "deep"),
    "lenient by itself": ({"x-guidance": {"lenient": True}, "not": {"type": "string"}}, "x-guidance"),
    "guided": ({"x-guidance": {"item_separator": "X"}, "type": "array"}, "x-guidance"),
    "guided within": ({"type": "object", "properties": {"a": {"x-guidance": {}}}}, "x-guidance"),
    "one of, advice": ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "use anyOf"),
    "names counted twice": ({"type": "object", "patternProperties": {"^[ab]$": {}}, "minProperties": 2}, "minProperties"),
    "reference to itself": ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "refers to itself"),
    "two references": ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "refers to itself"),
    "all of itself": ({"allOf": [{"$ref": "#"}]}, "refers to itself"),
    "a bound too close": ({"type": "number", "exclusiveMinimum": 1, "maximum": 1.0000000000000002}, "exclusiveMinimum"),
}  # fmt: skip
