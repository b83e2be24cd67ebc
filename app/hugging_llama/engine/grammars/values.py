"""Values that are valid by a JSON Schema, where a family of models writes them otherwise than in JSON.

What of JSON Schema is understood here is named below; anything else is refused by name, never ignored.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hugging_llama.engine.grammars.branches import Branches, check_counts, refuse_unknown
from hugging_llama.engine.grammars.keywords import (
    count_of,
    listed,
    mapped,
    options_of,
    required_of,
    resolved,
    types_of,
)
from hugging_llama.engine.grammars.lark import Lark, literal, one_of
from hugging_llama.errors import GrammarError
from hugging_llama.parsing.json_kinds import SCALARS

_OBJECT = frozenset({"type", "properties", "required", "additionalProperties", "minProperties", "maxProperties"})
_UNDERSTOOD = _OBJECT | {"enum", "const", "anyOf", "oneOf", "items", "$ref", "minItems", "maxItems", "uniqueItems"}
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
        self._branches = Branches(lark, root)
        self._references: dict[str, str] = {}

    def value(self, schema: Any) -> str:
        """A part of a rule. Raises GrammarError for keywords that can't be enforced in this syntax."""
        if schema is True or schema == {}:
            return one_of([self._scalar(kind) for kind in sorted(SCALARS)])
        if not isinstance(schema, Mapping):
            raise GrammarError("its parameters hold something that is no JSON Schema, or that no value fits")
        refuse_unknown(schema, _UNDERSTOOD)
        if "$ref" in schema:
            return self._reference(schema)
        if (given := options_of(schema)) is not None:
            refuse_unknown(schema, {"type", "enum", "const"}, beside="enum and const")
            return one_of([self._given(value) for value in given])
        for key in ("anyOf", "oneOf"):
            if branches := listed(schema, key):
                refuse_unknown(schema, {"type", key}, beside=key)
                branches = [self._branches.within(branch, types_of(schema)) for branch in branches]
                if key == "oneOf":
                    self._branches.check_apart(branches)
                return one_of([self.value(branch) for branch in branches if branch is not None] or [self.value(None)])
        usual = ["object"] if "properties" in schema else ["array"] if "items" in schema else sorted(SCALARS)
        return one_of([self._of_type(kind, schema) for kind in types_of(schema) or usual])

    def members(self, schema: Mapping[str, Any]) -> str:
        """The properties of an object, in the schema's order, without what stands around them."""
        refuse_unknown(schema, _UNDERSTOOD if schema is not self._root else _OBJECT)
        properties, required = dict(mapped(schema, "properties")), required_of(schema)
        others = schema.get("additionalProperties")
        for name in required:
            if name not in properties:
                properties[name] = {} if others in (None, True) else others
        check_counts(schema, properties)
        pairs = [
            (self._syntax.key(self._lark, name) + " " + self.value(value), name in required)
            for name, value in properties.items()
            if value is not False or name in required
        ]
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

    def _of_type(self, kind: str, schema: Mapping[str, Any]) -> str:
        if kind in SCALARS:
            return self._scalar(kind)
        if kind == "object":
            return self._lark.rule(f'"{{" {self.members(schema)} "}}"')
        item = self._lark.rule(self.value(schema.get("items", {})))
        least = count_of(schema, "minItems") or 0
        most = count_of(schema, "maxItems")
        most = max(_MOST_ITEMS, least) if most is None else most
        if schema.get("uniqueItems") or least > most:
            raise GrammarError("uniqueItems can't be enforced" if least <= most else "no array has its minItems")
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
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            return literal(json.dumps(value))
        raise GrammarError("objects and arrays in enum can't be enforced in this model's way to write calls")

    def _reference(self, schema: Mapping[str, Any]) -> str:
        refuse_unknown(schema, {"$ref", "type"}, beside="$ref")
        target, kinds = schema["$ref"], types_of(schema)
        name = json.dumps([target, sorted(kinds)])
        if name not in self._references:
            # the name first: the schema may refer to itself
            self._references[name] = self._lark.reserve()
            found = resolved(self._root, target)
            self._lark.define(self._references[name], self.value(self._branches.within(found, kinds)))
        return self._references[name]
