"""Expressions of a Go template to Jinja, each with its type: what Go would write, compare or refuse depends on it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hugging_llama.dialects.ollama.gotemplate.errors import TemplateError
from hugging_llama.dialects.ollama.gotemplate.nodes import (
    Call,
    Dot,
    Expression,
    Field,
    Literal,
    Root,
    Variable,
    VariableUse,
)
from hugging_llama.dialects.ollama.gotemplate.values import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    MIXED,
    PROPERTY,
    PROPERTY_TYPE,
    ROOT,
    STRING,
    Basic,
    Type,
    is_map,
)

_VERB = re.compile(r"%(.?)", re.DOTALL)
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_ORDERED = (Basic.STRING, Basic.INT, Basic.FLOAT)


@dataclass(frozen=True, slots=True)
class Value:
    """A Jinja expression that binds as tightly as a name, and its type."""

    code: str
    type: Type


@dataclass(slots=True)
class Scope:
    """What names mean at some place. `root`: fields of `$`; `macros` collects those that are needed."""

    root: Mapping[str, Value]
    variables: dict[Variable, Value] = field(default_factory=dict)
    macros: set[str] = field(default_factory=set)


def quoted(text: str) -> str:
    """A Jinja string, on one line, that means `text`."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


def value(expression: Expression, dot: Value, scope: Scope) -> Value:
    """`expression` where `dot` is in hand. Raises TemplateError for what has no place in Jinja."""
    if isinstance(expression, Literal):
        return _literal(expression)
    if isinstance(expression, Dot):
        return dot
    if isinstance(expression, Root):
        return Value("", ROOT)
    if isinstance(expression, VariableUse):
        return scope.variables[expression.variable]
    if isinstance(expression, Field):
        return _field(expression, value(expression.of, dot, scope), scope)
    return _call(expression, [value(operand, dot, scope) for operand in expression.operands], scope)


def written(of: Value, scope: Scope, line: int) -> str:
    """A Jinja expression for the text by which Go writes a value."""
    basic = of.type.basic
    if basic in (Basic.STRING, Basic.INT, Basic.FLOAT):
        return of.code
    if basic is Basic.BOOL:
        return f"('true' if {of.code} else 'false')"
    if basic is Basic.JSON:
        return _json(of, scope, line)
    if of.type is PROPERTY_TYPE:
        scope.macros.add("go_type")
        return f"go_type({of.code})"
    if basic is Basic.ANY or (basic is Basic.LIST and of.type.item is not None and of.type.item.is_scalar):
        scope.macros.add("go_text")
        return f"go_text({of.code})"
    raise TemplateError(line, f"a {of.type.name} can't be written; name one of its fields")


def _literal(literal: Literal) -> Value:
    constant = literal.value
    if isinstance(constant, bool):
        return Value("true" if constant else "false", BOOL)
    if isinstance(constant, str):
        return Value(quoted(constant), STRING)
    return Value(f"({constant})" if constant < 0 else str(constant), INT if isinstance(constant, int) else FLOAT)


def _field(expression: Field, of: Value, scope: Scope) -> Value:
    if of.type is ROOT:
        if found := scope.root.get(expression.name):
            return found
    elif expression.name in of.type.fields:
        code, type = of.type.fields[expression.name]
        return Value(code.format(of.code), type)
    elif is_map(of.type) and of.type.item is not None:
        return Value(f"{of.code}.get({quoted(expression.name)}, '')", of.type.item)
    raise TemplateError(expression.line, f"a {of.type.name} has no field .{expression.name} here")


def _call(call: Call, operands: list[Value], scope: Scope) -> Value:
    make, least, most = _FUNCTIONS.get(call.function, (None, 0, 0))
    if make is None:
        raise TemplateError(call.line, f"the function {call.function} is not supported")
    if not least <= len(operands) <= most:
        raise TemplateError(call.line, f"{call.function} has {len(operands)} operands")
    for operand in operands:
        if operand.type is ROOT:
            raise TemplateError(call.line, f"$ can't be an operand of {call.function}")
    return make(call, operands, scope)


_Function = Callable[[Call, list[Value], Scope], Value]


def _equal(call: Call, operands: list[Value], scope: Scope) -> Value:
    first, *others = operands
    for other in others:
        _check_comparable(call, first, other)
    sign = "==" if call.function == "eq" else "!="
    return Value("(" + " or ".join(f"{first.code} {sign} {other.code}" for other in others) + ")", BOOL)


def _ordered(call: Call, operands: list[Value], scope: Scope) -> Value:
    first, second = operands
    _check_comparable(call, first, second)
    if first.type.basic not in _ORDERED:
        raise TemplateError(call.line, f"a {first.type.name} has no order")
    return Value(f"({first.code} {_COMPARISONS[call.function]} {second.code})", BOOL)


def _check_comparable(call: Call, first: Value, second: Value) -> None:
    kinds = {first.type.basic, second.type.basic}
    if not (first.type.is_scalar and second.type.is_scalar) or (len(kinds) > 1 and Basic.ANY not in kinds):
        raise TemplateError(call.line, f"{call.function} can't compare a {first.type.name} with a {second.type.name}")


def _choice(call: Call, operands: list[Value], scope: Scope) -> Value:
    """`and`, `or`: as in Python, one of the operands."""
    types = {operand.type.name: operand.type for operand in operands}
    if len(types) == 1:
        type = operands[0].type
    else:
        type = ANY if all(operand.type.is_scalar for operand in operands) else MIXED
    return Value("(" + f" {call.function} ".join(operand.code for operand in operands) + ")", type)


def _not(call: Call, operands: list[Value], scope: Scope) -> Value:
    return Value(f"(not {operands[0].code})", BOOL)


def _len(call: Call, operands: list[Value], scope: Scope) -> Value:
    (of,) = operands
    if of.type.basic is Basic.STRING:
        return Value(f"({of.code}.encode() | length)", INT)
    if of.type.item is None:
        raise TemplateError(call.line, f"a {of.type.name} has no length")
    return Value(f"({of.code} | length)", INT)


def _slice(call: Call, operands: list[Value], scope: Scope) -> Value:
    of, *bounds = operands
    if any(bound.type is not INT for bound in bounds):
        raise TemplateError(call.line, "slice takes whole numbers")
    if len(bounds) > 2:
        raise TemplateError(call.line, "slice with a capacity is not supported")
    cut = ":".join(bound.code for bound in bounds) + (":" if len(bounds) == 1 else "")
    cut = cut or ":"
    if of.type.basic is Basic.STRING:  # Go counts bytes
        return Value(f"{of.code}.encode()[{cut}].decode('utf-8', 'replace')", STRING)
    if of.type.item is None or is_map(of.type):
        raise TemplateError(call.line, f"a {of.type.name} can't be sliced")
    return Value(f"{of.code}[{cut}]", of.type)


def _index(call: Call, operands: list[Value], scope: Scope) -> Value:
    of, *keys = operands
    for key in keys:
        item = of.type.item
        if item is None:
            raise TemplateError(call.line, f"a {of.type.name} has no items")
        if key.type is not (STRING if is_map(of.type) else INT):
            raise TemplateError(call.line, f"a {key.type.name} is no index of a {of.type.name}")
        of = Value(f"{of.code}.get({key.code}, '')" if is_map(of.type) else f"{of.code}[{key.code}]", item)
    return of


def _print(call: Call, operands: list[Value], scope: Scope) -> Value:
    """fmt.Sprint: a space between two operands neither of which is text."""
    parts: list[str] = []
    for before, operand in zip([None, *operands], operands, strict=False):
        if before is not None and STRING not in (before.type, operand.type):
            parts.append("' '")
        parts.append(written(operand, scope, call.line))
    return _joined(parts)


def _printf(call: Call, operands: list[Value], scope: Scope) -> Value:
    format = call.operands[0]
    if not isinstance(format, Literal) or not isinstance(format.value, str):
        raise TemplateError(call.line, "the format of printf has to be a text in quotes")
    left = operands[1:]
    parts: list[str] = []
    at = 0
    for verb in _VERB.finditer(format.value):
        parts.append(quoted(format.value[at : verb.start()]))
        at = verb.end()
        if verb[1] == "%":
            parts.append("'%'")
        elif not left:
            raise TemplateError(call.line, "printf has too few operands")
        else:
            parts.append(_formatted(call, verb[1], left.pop(0), scope))
    if left:
        raise TemplateError(call.line, "printf has too many operands")
    return _joined([*parts, quoted(format.value[at:])])


def _formatted(call: Call, verb: str, operand: Value, scope: Scope) -> str:
    if verb == "v" or (verb == "s" and operand.type.basic in (Basic.STRING, Basic.JSON)):
        return written(operand, scope, call.line)
    if verb == "s" and operand.type is PROPERTY_TYPE:
        return written(operand, scope, call.line)
    if verb == "d" and operand.type is INT:
        return operand.code
    raise TemplateError(call.line, f"printf can't write a {operand.type.name} by %{verb}")


def _joined(parts: Sequence[str]) -> Value:
    kept = [part for part in parts if part != "''"]
    return Value("(" + " ~ ".join(["''", *kept] if len(kept) < 2 else kept) + ")", STRING)


def _json_call(call: Call, operands: list[Value], scope: Scope) -> Value:
    return Value(_json(operands[0], scope, call.line), STRING)


def _json(of: Value, scope: Scope, line: int) -> str:
    is_plain = of.type.is_scalar or of.type.basic is Basic.JSON
    if not is_plain and not (of.type.basic is Basic.LIST and of.type.item is not None and of.type.item.is_scalar):
        raise TemplateError(line, f"a {of.type.name} can't be written as JSON")
    scope.macros.add("go_json")
    # an absent list is nil in Go
    return f"go_json({of.code} or none)" if of.type.basic is Basic.LIST else f"go_json({of.code})"


def _date(call: Call, operands: list[Value], scope: Scope) -> Value:
    return Value("strftime_now('%Y-%m-%d')", STRING)


def _typescript(call: Call, operands: list[Value], scope: Scope) -> Value:
    if operands[0].type is not PROPERTY:
        return Value("'any'", STRING)
    scope.macros.add("typescript_type")
    return Value(f"typescript_type({operands[0].code})", STRING)


_FUNCTIONS: Mapping[str, tuple[_Function, int, int]] = {
    "eq": (_equal, 2, 16),
    "ne": (_equal, 2, 2),
    **dict.fromkeys(_COMPARISONS, (_ordered, 2, 2)),
    "and": (_choice, 1, 16),
    "or": (_choice, 1, 16),
    "not": (_not, 1, 1),
    "len": (_len, 1, 1),
    "slice": (_slice, 1, 3),
    "index": (_index, 1, 4),
    "print": (_print, 0, 16),
    "printf": (_printf, 1, 16),
    "json": (_json_call, 1, 1),
    "currentDate": (_date, 0, 1),
    "toTypeScriptType": (_typescript, 1, 1),
}
"""Ollama's functions and those of Go that are in use: what makes the Jinja, the fewest and the most operands."""
