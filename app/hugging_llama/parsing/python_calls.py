"""Calls as Python writes them: `f(a=1, b="x")`, with values that are literals."""

import ast
import keyword
import re
from typing import Any

from hugging_llama.parsing.raw_calls import RawCall, Schemas, checked, nearest

FUNCTION_NAME = re.compile(r"[^\W\d](?:[\w.-]*\w)?")
PARAMETER_NAME = re.compile(r"[^\W\d][\w-]*")
"""More than Python's own names: keywords and hyphens are read, too."""

_MOST_PYTHON = 100_000
_STRING_OR_NAME = re.compile(
    r"(?s)'''.*?'''|\"\"\".*?\"\"\"|'(?:[^'\\]|\\.)*+'?|\"(?:[^\"\\]|\\.)*+\"?"
    r"|(?<![\w.-])(?:(?P<function>[^\W\d][\w.-]*+)(?=\s*+\()|(?P<parameter>[^\W\d][\w-]*+)(?=\s*+=(?!=)))"
)
_WORDS = {"true": True, "false": False, "null": None}


def python_calls(body: str, tools: Schemas) -> list[RawCall]:
    """`[f(a=1), g(b="x")]`: a list of calls, or calls on lines of their own; keyword arguments with literal values."""
    if len(body) > _MOST_PYTHON:
        raise ValueError("no call")
    names = _Names()
    try:
        nodes: list[ast.expr] = []
        for statement in ast.parse(names.made_python(body.strip())).body:
            if not isinstance(statement, ast.Expr):
                raise ValueError("no call")
            value = statement.value
            nodes += value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
    except (SyntaxError, MemoryError) as error:
        raise ValueError("no call") from error
    if not nodes:
        raise ValueError("no call")
    return [_call(node, names) for node in nodes]


class _Names:
    """Names that Python would not take, or not as they are, and what stands for them while it reads."""

    def __init__(self) -> None:
        self._originals: dict[str, str] = {}
        self._prefix = "name"

    def made_python(self, text: str) -> str:
        while self._prefix in text:
            self._prefix += "_"
        return _STRING_OR_NAME.sub(self._replaced, text)

    def original(self, name: str) -> str:
        return self._originals.get(name, name)

    def _replaced(self, match: re.Match[str]) -> str:
        name = match["function"] or match["parameter"]
        if not name or (name.isascii() and name.isidentifier() and not keyword.iskeyword(name)):
            return match[0]
        made = f"{self._prefix}{len(self._originals)}"
        self._originals[made] = name
        return made


def _call(node: ast.expr, names: _Names) -> RawCall:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("no call")
    arguments: dict[str, Any] = {}
    for argument in node.keywords:
        if argument.arg is None:
            raise ValueError("no call")
        arguments[names.original(argument.arg)] = _value(argument.value)
    try:
        return checked(names.original(ast.unparse(node.func)), arguments)
    except (TypeError, OverflowError) as error:  # a value that JSON has no word for
        raise ValueError("no call") from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _WORDS:
        return _WORDS[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_value(key) if key else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise ValueError("no call")
        return dict(zip(keys, map(_value, node.values), strict=True))
    value = ast.literal_eval(node)
    if not isinstance(value, str | int | float | None):
        raise ValueError("no call")
    return nearest(value) if isinstance(value, float) else value
