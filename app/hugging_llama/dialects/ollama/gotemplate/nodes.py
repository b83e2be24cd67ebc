"""What a Go template consists of, once it is parsed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Variable:
    """A `$name` in its scope. `reassigned`: `=` gives it another value later."""

    name: str
    reassigned: bool = False


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, a whole number, a decimal one, true or false."""

    value: str | int | float | bool
    line: int


@dataclass(frozen=True, slots=True)
class Dot:
    """`.`, what is in hand."""

    line: int


@dataclass(frozen=True, slots=True)
class Root:
    """`$`, what the template was given."""

    line: int


@dataclass(frozen=True, slots=True)
class VariableUse:
    """The value of a variable."""

    variable: Variable
    line: int


@dataclass(frozen=True, slots=True)
class Field:
    """`of.name`."""

    of: Expression
    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its operands; the value of a pipeline so far is the last of them."""

    function: str
    operands: tuple[Expression, ...]
    line: int


Expression = Literal | Dot | Root | VariableUse | Field | Call


@dataclass(frozen=True, slots=True)
class Text:
    """What stands between actions."""

    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Output:
    """`{{ expression }}`."""

    value: Expression
    line: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """`{{ $x := expression }}`, or `=` where the variable is there already (`declares` False)."""

    variable: Variable
    value: Expression
    declares: bool
    line: int


@dataclass(frozen=True, slots=True)
class If:
    """`is_else_if`: written as `else if` within the one that holds it. `declared`: `if $x := …`."""

    condition: Expression
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    declared: Variable | None
    is_else_if: bool
    line: int


@dataclass(frozen=True, slots=True)
class With:
    """The value is in hand within `body`, if there is one."""

    value: Expression
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    declared: Variable | None
    line: int


@dataclass(frozen=True, slots=True)
class Range:
    """A loop; `key` counts a list from 0 or is the name of a map's value."""

    over: Expression
    key: Variable | None
    value: Variable | None
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue`."""

    word: str
    line: int


Node = Text | Output | Assignment | If | With | Range | Jump


def field_names(part: object) -> set[str]:
    """All names of fields below a node, a tuple of nodes or an expression, in lower case."""
    if isinstance(part, tuple):
        return set().union(*map(field_names, part))
    if isinstance(part, Field):
        return {part.name.lower()} | field_names(part.of)
    if isinstance(part, Call):
        return field_names(part.operands)
    if isinstance(part, Output | Assignment):
        return field_names(part.value)
    if isinstance(part, If):
        return field_names((part.condition, part.body, part.otherwise))
    if isinstance(part, With):
        return field_names((part.value, part.body, part.otherwise))
    if isinstance(part, Range):
        return field_names((part.over, part.body, part.otherwise))
    return set()


def cut_after(nodes: tuple[Node, ...], name: str) -> tuple[tuple[Node, ...], bool]:
    """`nodes` up to the first output of the field `name`, as Ollama cuts a template where the answer begins.

    The second value says whether there was one. Conditions are not looked at.
    """
    kept: list[Node] = []
    for node in nodes:
        is_cut = False
        if isinstance(node, Output | Assignment):
            is_cut = _names(node.value, name)
        elif isinstance(node, If | With | Range):
            body, is_cut = cut_after(node.body, name)
            otherwise: tuple[Node, ...] = ()
            if not is_cut:
                otherwise, is_cut = cut_after(node.otherwise, name)
            node = _with_branches(node, body, otherwise)
        kept.append(node)
        if is_cut:
            return tuple(kept), True
    return tuple(kept), False


def _names(expression: Expression, name: str) -> bool:
    """Whether it has the field `name` of what is in hand; as in Ollama, `$.name` does not count."""
    if isinstance(expression, Call):
        return any(_names(operand, name) for operand in expression.operands)
    if isinstance(expression, Field):
        return (expression.name == name and isinstance(expression.of, Dot)) or _names(expression.of, name)
    return False


def _with_branches(node: If | With | Range, body: tuple[Node, ...], otherwise: tuple[Node, ...]) -> Node:
    if isinstance(node, If):
        return If(node.condition, body, otherwise, node.declared, node.is_else_if, node.line)
    if isinstance(node, With):
        return With(node.value, body, otherwise, node.declared, node.line)
    return Range(node.over, node.key, node.value, body, otherwise, node.line)
