"""Values that are valid by a JSON Schema, where a family of models writes them otherwise than in JSON.

What of JSON Schema is understood here is named below; anything else is refused by name, never ignored.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hugging_llama.engine.grammars.lark import Lark, literal, one_of
from hugging_llama.errors import GrammarError

_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$comment"}
    | {"nullable", "strict"}
)
_UNDERSTOOD = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "properties", "required", "additionalProperties", "items", "$ref"}
    | {"minItems", "maxItems", "$defs", "definitions"}
)
_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})
_MOST_ITEMS = 64
_INTEGER = r"/-?(0|[1-9][0-9]{0,17})/"
_NUMBER = r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSyntax:
    """How a family writes values. `string` gives the rule of any string, `quoted` that of a given one, `key` that of a
    property's name with what stands before its value."""

    true: str
    false: str
    null: str
    string: Callable[[Lark], str]
    quoted: Callable[[Lark, str], str]
    key: Callable[[Lark, str], str]


class Values:
    """Rules for the values of one schema. `root` is the schema that references point into."""

    def __init__(self, lark: Lark, syntax: ValueSyntax, root: Mapping[str, Any]) -> None:
        self._lark = lark
        self._syntax = syntax
        self._root = root
        self._references: dict[str, str] = {}

    def value(self, schema: Any) -> str:
        """A part of a rule. Raises GrammarError for keywords that can't be enforced in this syntax."""
        if schema is True or schema == {}:
            return one_of([self._scalar(kind) for kind in sorted(_SCALARS)])
        if not isinstance(schema, Mapping):
            raise GrammarError("a tool's parameters hold something that is no JSON Schema")
        if unknown := sorted(schema.keys() - _UNDERSTOOD - _ANNOTATIONS):
            raise GrammarError(f"this model's tool calls can't be held to a schema with {', '.join(unknown)[:200]}")
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        if "const" in schema or "enum" in schema:
            return one_of([self._given(value) for value in schema.get("enum", [schema.get("const")])])
        if branches := schema.get("anyOf", schema.get("oneOf")):
            return one_of([self.value(branch) for branch in branches])
        kinds = schema.get("type", "object" if "properties" in schema else sorted(_SCALARS))
        return one_of([self._of_type(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds)])

    def members(self, schema: Mapping[str, Any]) -> str:
        """The properties of an object, in the schema's order, without what stands around them."""
        properties, required = schema.get("properties") or {}, set(schema.get("required") or ())
        if schema.get("additionalProperties") not in (None, False, True):
            raise GrammarError("this model's tool calls can't be held to a schema with additionalProperties")
        pairs = [(self._syntax.key(self._lark, k) + " " + self.value(v), k in required) for k, v in properties.items()]
        return self._separated(pairs)

    def _separated(self, pairs: list[tuple[str, bool]]) -> str:
        """Pairs with commas between those that are there; of each whether it must be."""
        empty, rest = '""', '""'
        # from the last to the first: `rest` follows a pair that is there, `empty` stands where none is yet
        for pair, is_required in reversed(pairs):
            first = self._lark.rule(f"{pair} {rest}")
            after = self._lark.rule(f'"," {pair} {rest}')
            empty = first if is_required else self._lark.rule(f"{first} | {empty}")
            rest = after if is_required else self._lark.rule(f"{after} | {rest}")
        return empty

    def _of_type(self, kind: Any, schema: Mapping[str, Any]) -> str:
        if kind in _SCALARS:
            return self._scalar(kind)
        if kind == "object":
            return self._lark.rule(f'"{{" {self.members(schema)} "}}"')
        if kind != "array":
            raise GrammarError(f"a tool's parameters have the unknown type {str(kind)[:40]!r}")
        item = self._lark.rule(self.value(schema.get("items", {})))
        least, most = schema.get("minItems", 0), schema.get("maxItems", _MOST_ITEMS)
        if not 0 <= least <= most:
            raise GrammarError("a tool's parameters have an array that no value fits")
        if most == 0:
            return '"[]"'
        listed = f'{item} ("," {item}){{{max(least - 1, 0)},{most - 1}}}'
        return self._lark.rule(f'"[" {listed} "]"' + (' | "[]"' if least == 0 else ""))

    def _scalar(self, kind: str) -> str:
        if kind == "string":
            return self._syntax.string(self._lark)
        if kind == "boolean":
            return one_of([literal(self._syntax.true), literal(self._syntax.false)])
        return {"integer": _INTEGER, "number": _NUMBER, "null": literal(self._syntax.null)}[kind]

    def _given(self, value: Any) -> str:
        if isinstance(value, str):
            return self._syntax.quoted(self._lark, value)
        if value is None or isinstance(value, bool):
            words = {None: self._syntax.null, True: self._syntax.true, False: self._syntax.false}
            return literal(words[value])
        if isinstance(value, int | float):
            return literal(json.dumps(value))
        raise GrammarError("this model's tool calls can't be held to a schema with objects or arrays in enum")

    def _reference(self, target: Any) -> str:
        if not isinstance(target, str) or not target.startswith("#"):
            raise GrammarError("a tool's parameters refer to a schema elsewhere")
        if target not in self._references:
            # the name first: the schema may refer to itself
            self._references[target] = self._lark.reserve()
            self._lark.define(self._references[target], self.value(self._resolved(target)))
        return self._references[target]

    def _resolved(self, target: str) -> Any:
        found: Any = self._root
        for part in target.removeprefix("#").split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or part not in found:
                raise GrammarError(f"a tool's parameters refer to {target[:80]}, which is not there")
            found = found[part]
        return found
