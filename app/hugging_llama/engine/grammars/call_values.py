"""Arguments of tool calls that are not written as JSON: elements, pairs, Gemma's and Python's literals."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hugging_llama.engine.grammars.branches import Branches, check_counts, refuse_unknown
from hugging_llama.engine.grammars.json_schemas import targets_of
from hugging_llama.engine.grammars.keywords import (
    DEFINITIONS,
    asked,
    count_of,
    listed,
    options_of,
    required_of,
    subschemas,
    types_of,
)
from hugging_llama.engine.grammars.lark import Lark, literal, one_of
from hugging_llama.engine.grammars.parameters import opened_properties
from hugging_llama.engine.grammars.values import Values, ValueSyntax
from hugging_llama.errors import GrammarError
from hugging_llama.parsing.call_bodies import typed_value
from hugging_llama.parsing.json_kinds import comparable, kinds_of
from hugging_llama.parsing.python_calls import PARAMETER_NAME

_VALUES_A_STEP = 64
_TOP = frozenset({"type", "properties", "required", "additionalProperties", "minProperties", "maxProperties"})
_TEXT = frozenset({"type", "enum", "const", "minLength", "maxLength", "anyOf", "oneOf"})
_NAMES = r"[^\s<>=\"]+"
_ELEMENT_NAMES = r"[^\s<>=\"'(){}\[\]]+"
_PYTHON_STRING = r'/"([^"\\\n\x00-\x1f]|\\[\\"nt])*"/'


def elements(lark: Lark, schema: Mapping[str, Any]) -> str:
    """`<parameter=key>`, the value on lines of its own, `</parameter>`, for each property in the schema's order."""
    return _each_text(lark, schema, "<parameter={}>\n", "\n</parameter>\n", _ELEMENT_NAMES)


def named_elements(lark: Lark, schema: Mapping[str, Any]) -> str:
    """`<parameter name="key">value</parameter>`."""
    return _each_text(lark, schema, '<parameter name="{}">', "</parameter>\n")


def dsml_elements(lark: Lark, schema: Mapping[str, Any]) -> str:
    """`<｜DSML｜parameter name="key" string="true">text</｜DSML｜parameter>`, or `"false"` and JSON."""
    after = "</｜DSML｜parameter>\n"

    def value(given: Any) -> str:
        if kinds_of(given) == ["string"]:
            return f"{literal(' string=' + chr(34) + 'true' + chr(34) + '>')} {_text(lark, given, schema, after)}"
        _check_texts(given, after)
        wanted = _json(lark, {} if given is True else _checked(given), schema)
        return f"{literal(' string=' + chr(34) + 'false' + chr(34) + '>')} {wanted} {literal(after)}"

    return _each(lark, schema, '<｜DSML｜parameter name="{}"', value)


def argument_pairs(lark: Lark, schema: Mapping[str, Any]) -> str:
    """`<arg_key>key</arg_key>` and `<arg_value>value</arg_value>`."""
    return _each_text(lark, schema, "<arg_key>{}</arg_key>\n<arg_value>", "</arg_value>\n")


def keywords(lark: Lark, schema: Mapping[str, Any]) -> str:
    """`a=1, b="x"`."""
    top = ValueSyntax(
        true="True", false="False", null="None", string=_python_string, quoted=_python_quoted, key=_keyword
    )
    return _Keywords(lark, top, schema).members(schema)


def gemma_syntax(quote: str, close: str) -> ValueSyntax:
    """Bare keys, and strings between marks of their own."""

    def string(lark: Lark) -> str:
        return f"{lark.mark(quote)} {lark.text_before_mark(quote)}"

    def quoted(lark: Lark, text: str) -> str:
        if quote in text or close in text:
            raise GrammarError(f"this model's way to write calls has no room for the value {text[:80]!r}")
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

    _has_begun = False

    def members(self, schema: Mapping[str, Any]) -> str:
        if not self._has_begun:
            self._has_begun = True
            return super().members(schema)
        inner = ValueSyntax(
            true="True", false="False", null="None", string=_python_string, quoted=_python_quoted, key=_python_key
        )
        return Values(self._lark, inner, self._root).members(schema)


def _python_string(lark: Lark) -> str:
    return _PYTHON_STRING


def _python_quoted(lark: Lark, text: str) -> str:
    return literal(json.dumps(text, ensure_ascii=False))


def _python_key(lark: Lark, name: str) -> str:
    return literal(json.dumps(name, ensure_ascii=False) + ": ")


def _keyword(lark: Lark, name: str) -> str:
    if not PARAMETER_NAME.fullmatch(name):
        raise GrammarError(f"this model writes calls in Python, where no parameter has the name {name[:80]!r}")
    return literal(f"{name}=")


def _each_text(lark: Lark, schema: Mapping[str, Any], before: str, after: str, names: str = _NAMES) -> str:
    return _each(lark, schema, before, lambda value: _text(lark, value, schema, after), names)


def _each(
    lark: Lark, schema: Mapping[str, Any], before: str, value_of: Callable[[Any], str], names: str = _NAMES
) -> str:
    refuse_unknown(schema, _TOP)
    properties, required = opened_properties(schema), required_of(schema)
    check_counts(schema, properties)
    parts = []
    for name, value in properties.items():
        if value is False and name not in required:
            continue
        if not re.fullmatch(names, name):
            raise GrammarError(f"this model can't write a parameter with the name {name[:80]!r}")
        pair = f"{literal(before.format(name))} {value_of(value)}"
        parts.append(lark.rule(pair if name in required else f'{pair} | ""'))
    return " ".join(parts) or '""'


def _text(lark: Lark, schema: Any, root: Mapping[str, Any], after: str) -> str:
    """A value as bare text and `after`; JSON for all that is no string."""
    if schema is True or (isinstance(schema, Mapping) and not asked(schema)):
        return _free_text(lark, after)
    if not isinstance(schema, Mapping):
        raise GrammarError("its parameters hold something that is no JSON Schema, or that no value fits")
    _check_texts(schema, after)
    kinds = kinds_of(schema)
    if kinds and "string" not in kinds:
        return f"{_json(lark, schema, root)} {literal(after)}"
    texts: list[Mapping[str, Any]] = []
    others: list[Mapping[str, Any]] = []
    for branch in _branches(schema, Branches(lark, root)):
        (texts if options_of(branch) is None and _may_be_text(branch) else others).append(branch)
    if texts and (unkept := [branch for branch in others if not _is_kept_beside_text(branch)]):
        words = ", ".join(sorted(asked(unkept[0]) - {"type"}))
        raise GrammarError(f"this model's way to write calls can't be held to {words[:200]} beside a string")
    if any(not asked(branch) - {"type"} for branch in texts):
        return _free_text(lark, after)
    parts = [_bounded_text(branch) for branch in texts]
    for branch in others:
        given = options_of(branch)
        parts += [_json(lark, branch, root)] if given is None else _given(lark, given, schema)
    if not parts:
        raise GrammarError("no value fits one of its parameters")
    return f"{one_of(parts)} {literal(after)}"


def _free_text(lark: Lark, after: str) -> str:
    """Any text up to the first closing tag, where readers end it, too."""
    mark = after.strip()
    return f"{lark.text_before(mark)} {literal(after.partition(mark)[2])}"


def _branches(schema: Mapping[str, Any], opened: Branches) -> list[Mapping[str, Any]]:
    """The schemas of which one holds, each with types of its own."""
    if _may_be_text(schema):
        refuse_unknown(schema, _TEXT)
    for key in ("anyOf", "oneOf"):
        if listed(schema, key):
            refuse_unknown(schema, {"type", key}, beside=key)
            found = [opened.within(branch, types_of(schema)) for branch in listed(schema, key)]
            if key == "oneOf":
                opened.check_apart(found)
            return [each for branch in found if branch is not None for each in _branches(_checked(branch), opened)]
    if options_of(schema) is not None:
        return [schema]
    kinds = types_of(schema)
    return [{**schema, "type": kind} for kind in kinds] if len(kinds) > 1 else [schema]


def _checked(branch: Any) -> Mapping[str, Any]:
    if not isinstance(branch, Mapping):
        raise GrammarError("a branch of its parameters is true or no JSON Schema")
    return branch


def _may_be_text(schema: Mapping[str, Any]) -> bool:
    kinds = kinds_of(schema)
    return not kinds or "string" in kinds


def _is_kept_beside_text(schema: Mapping[str, Any]) -> bool:
    """Whether any text that is not of this schema's kind is a string: what stands for its values is all of a kind."""
    given = options_of(schema)
    if given is not None:
        return all(value is None or isinstance(value, str) for value in given)
    return not asked(schema) - {"type"}


def _bounded_text(schema: Mapping[str, Any]) -> str:
    refuse_unknown(schema, {"type", "minLength", "maxLength"})
    least, most = count_of(schema, "minLength") or 0, count_of(schema, "maxLength")
    if most is not None and most < least:
        raise GrammarError("no string has its minLength")
    return f"/[^<\\n]{{{least},{'' if most is None else most}}}/"


def _given(lark: Lark, given: Sequence[Any], schema: Mapping[str, Any]) -> list[str]:
    """The `given` values as texts; each may be read as another one of them, "1" as 1."""
    texts = [value if isinstance(value, str) else json.dumps(value) for value in given]
    if kinds_of(schema) != ["string"]:
        lark.spend(len(given) ** 2 // _VALUES_A_STEP)
        fine = set(map(comparable, given))
        for text in texts:
            if comparable(typed_value(text, schema)) not in fine:
                raise GrammarError(f"in this model's way to write calls {text[:80]!r} would be read as another value")
    return list(map(literal, texts))


def _check_texts(schema: Any, after: str) -> None:
    """Raises GrammarError for given strings that would end the value they stand in, or lose a line's end there."""
    mark = after.strip()
    for text in _strings(schema):
        is_stripped = after in ("</parameter>\n", "</arg_value>\n") and text != text.strip("\n")
        if mark in text or "</invoke>" in text or "</｜DSML｜invoke>" in text or is_stripped:
            raise GrammarError(f"this model's way to write calls has no room for the value {text[:80]!r}")


def _strings(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        given = schema.get("enum")
        for value in (schema.get("const"), *(given if isinstance(given, list) else ())):
            yield from _strings_in(value)
        for _, each in subschemas(schema):
            yield from _strings(each)


def _strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from value
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for child in children:
        yield from _strings_in(child)


def _json(lark: Lark, schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    if not targets_of(schema):
        return lark.json(schema)
    for target in targets_of({**schema, **_definitions(root)}):
        if isinstance(target, str) and not target.startswith(tuple(f"#/{key}/" for key in DEFINITIONS)):
            raise GrammarError(f"in this model's way to write calls nothing can refer to {target[:80]}")
    return lark.json({**schema, **_definitions(root)})


def _definitions(root: Mapping[str, Any]) -> dict[str, Any]:
    return {key: root[key] for key in DEFINITIONS if key in root}
