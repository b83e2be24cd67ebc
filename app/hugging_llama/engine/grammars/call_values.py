"""Arguments of tool calls that are not written as JSON: elements, pairs, Gemma's and Python's literals."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from hugging_llama.engine.grammars.lark import Lark, literal, one_of
from hugging_llama.engine.grammars.values import Values, ValueSyntax
from hugging_llama.errors import GrammarError

_ANNOTATIONS = frozenset({"title", "description", "default", "examples"})
_TEXT_KEYS = frozenset({"type", "enum", "const", "minLength", "maxLength", "anyOf", "oneOf"})
_PYTHON_STRING = r'/"([^"\\\n\x00-\x1f]|\\[\\"nt])*"/'


def elements(lark: Lark, schema: Mapping[str, Any]) -> str:
    """`<parameter=key>`, the value on lines of its own, `</parameter>`, for each property in the schema's order."""
    return _each_text(lark, schema, "<parameter={}>\n", "\n</parameter>\n")


def named_elements(lark: Lark, schema: Mapping[str, Any]) -> str:
    """`<parameter name="key">value</parameter>`."""
    return _each_text(lark, schema, '<parameter name="{}">', "</parameter>\n")


def dsml_elements(lark: Lark, schema: Mapping[str, Any]) -> str:
    """`<｜DSML｜parameter name="key" string="true">text</｜DSML｜parameter>`, or `"false"` and JSON."""
    after = "</｜DSML｜parameter>\n"

    def value(given: Any) -> str:
        if _kinds(given) == ["string"]:
            return f"{literal(' string=' + chr(34) + 'true' + chr(34) + '>')} {_text(lark, given, schema, after)}"
        wanted = {**given, **_definitions(schema)} if isinstance(given, Mapping) else {}
        return f"{literal(' string=' + chr(34) + 'false' + chr(34) + '>')} {lark.json(wanted)} {literal(after)}"

    return _each(lark, schema, '<｜DSML｜parameter name="{}"', value)


def argument_pairs(lark: Lark, schema: Mapping[str, Any]) -> str:
    """`<arg_key>key</arg_key>` and `<arg_value>value</arg_value>`."""
    return _each_text(lark, schema, "<arg_key>{}</arg_key>\n<arg_value>", "</arg_value>\n")


def keywords(lark: Lark, schema: Mapping[str, Any]) -> str:
    """`a=1, b="x"`."""
    if not all(name.isidentifier() for name in schema.get("properties") or ()):
        raise GrammarError("this model writes calls in Python, where a parameter's name is no name")
    top = ValueSyntax(
        true="True", false="False", null="None", string=_python_string, quoted=_python_quoted, key=_keyword
    )
    return _Keywords(lark, top, schema).members(schema)


def gemma_syntax(quote: str) -> ValueSyntax:
    """Bare keys, and strings between marks of their own."""

    def string(lark: Lark) -> str:
        return f"{lark.mark(quote)} {lark.text_before_mark(quote)}"

    def quoted(lark: Lark, text: str) -> str:
        return (
            f"{lark.mark(quote)} {literal(text)} {lark.mark(quote)}"
            if text
            else f"{lark.mark(quote)} {lark.mark(quote)}"
        )

    def key(lark: Lark, name: str) -> str:
        if not re.fullmatch(r"[^\s:{}\[\],<\"]+", name):
            raise GrammarError(f"this model can't write a parameter with the name {name[:80]!r}")
        return literal(f"{name}:")

    return ValueSyntax(true="true", false="false", null="null", string=string, quoted=quoted, key=key)


class _Keywords(Values):
    """Python's values: what is inside of an argument has quoted keys, the arguments themselves have names."""

    def members(self, schema: Mapping[str, Any]) -> str:
        if schema is self._root:
            return super().members(schema)
        inner = ValueSyntax(
            true="True", false="False", null="None", string=_python_string, quoted=_python_quoted, key=_python_key
        )
        return Values(self._lark, inner, self._root).members(schema)


def _python_string(lark: Lark) -> str:
    return _PYTHON_STRING


def _python_quoted(lark: Lark, text: str) -> str:
    return literal(json.dumps(text))


def _python_key(lark: Lark, name: str) -> str:
    return literal(json.dumps(name) + ": ")


def _keyword(lark: Lark, name: str) -> str:
    return literal(f"{name}=")


def _each_text(lark: Lark, schema: Mapping[str, Any], before: str, after: str) -> str:
    return _each(lark, schema, before, lambda value: _text(lark, value, schema, after))


def _each(lark: Lark, schema: Mapping[str, Any], before: str, value_of: Callable[[Any], str]) -> str:
    properties, required = schema.get("properties") or {}, set(schema.get("required") or ())
    parts = []
    for name, value in properties.items():
        if not re.fullmatch(r"[^\s<>=\"]+", name):
            raise GrammarError(f"this model can't write a parameter with the name {name[:80]!r}")
        pair = f"{literal(before.format(name))} {value_of(value)}"
        parts.append(lark.rule(pair if name in required else f'{pair} | ""'))
    return " ".join(parts) or '""'


def _text(lark: Lark, schema: Any, root: Mapping[str, Any], after: str) -> str:
    """A value as bare text and `after`; JSON for all that is no string."""
    kinds = _kinds(schema)
    if "string" not in kinds and kinds:
        return f"{lark.json({**schema, **_definitions(root)})} {literal(after)}"
    if not isinstance(schema, Mapping) or not schema.keys() - _ANNOTATIONS:
        return lark.text_before(after)
    if unknown := sorted(schema.keys() - _TEXT_KEYS - _ANNOTATIONS):
        raise GrammarError(f"this model's tool calls can't be held to a parameter with {', '.join(unknown)[:200]}")
    if "enum" in schema or "const" in schema:
        texts = schema.get("enum", [schema.get("const")])
        return f"{one_of(literal(_bare(text)) for text in texts)} {literal(after)}"
    if "minLength" in schema or "maxLength" in schema:
        least, most = schema.get("minLength", 0), schema.get("maxLength", "")
        return f"/[^<\\n]{{{least},{most}}}/ {literal(after)}"
    return lark.text_before(after)


def _definitions(root: Mapping[str, Any]) -> dict[str, Any]:
    return {key: root[key] for key in ("$defs", "definitions") if key in root}


def _kinds(schema: Any) -> list[str]:
    """The JSON types that a schema allows, [] where it does not say that at first sight."""
    if not isinstance(schema, Mapping):
        return []
    branches = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(branches, list):
        found = [_kinds(branch) for branch in branches]
        return [kind for kinds in found for kind in kinds] if all(found) else []
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def _bare(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
