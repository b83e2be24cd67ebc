"""Grammars put together rule by rule, in llguidance's dialect of Lark.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from hugging_llama.errors import GrammarError

_COMPACT = {"whitespace_pattern": "[ ]?", "lenient": False, "coerce_one_of": False}


_TOOL = "of the tool "
_MOST_STEPS = 10_000


def tool_at(grammar: str, line: int) -> str:
    """The name of the tool whose schema stands in this line (from 1 on) of a grammar, "" for none."""
    lines = grammar.split("\n")
    _, found, name = (lines[line - 1] if 0 < line <= len(lines) else "").rpartition(f" // {_TOOL}")
    return str(json.loads(name)) if found else ""


def literal(text: str) -> str:
    """Exactly this text; Lark's strings have JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)


def one_of(parts: Iterable[str]) -> str:
    """Any one of the parts."""
    return "(" + " | ".join(parts) + ")"


def repeated(part: str, separator: str, *, most: int | None = None) -> str:
    """One or more of `part`, at most `most`, with a literal between them; "" for none."""
    following = f"({literal(separator)} {part})" if separator else f"({part})"
    times = "*" if most is None else f"{{0,{most - 1}}}"
    return part if most == 1 else f"{part} {following}{times}"


class Lark:
    """Rules under names of their own. `special_ids` are the tokens that no text stands for, by their texts."""

    def __init__(self, special_ids: Mapping[str, int]) -> None:
        self._special_ids = special_ids
        self._rules: list[str] = []
        self._num_names = 0
        self._steps_left = _MOST_STEPS
        self.tool = ""
        """Whose schemas are being written down, for `tool_at`."""

    def spend(self, steps: int) -> None:
        """Counts work that a schema may multiply: some dozen microseconds each, in the caller's thread.

        Raises GrammarError once all the tools of a request have cost too much.
        """
        self._steps_left -= steps
        if self._steps_left < 0:
            raise GrammarError("its parameters are too large or refer too deep: use fewer branches and references")

    def rule(self, body: str, attributes: str = "") -> str:
        """The name of a new rule."""
        name = self.reserve()
        self.define(name, body, attributes)
        return name

    def reserve(self) -> str:
        """A name for a rule that is defined later, so that it may refer to itself."""
        self._num_names += 1
        return f"r{self._num_names}"

    def define(self, name: str, body: str, attributes: str = "") -> None:
        """What a reserved name stands for."""
        self._rules.append(f"{name}{attributes}: {body}")

    def mark(self, text: str) -> str:
        """A family's mark: the token of this text, or the text itself where there is no such token."""
        found = self._special_ids.get(text)
        return literal(text) if found is None else f"<[{found}]>"

    def json(self, schema: Mapping[str, Any]) -> str:
        """A JSON value on one line that is valid by `schema`."""
        note = f" // {_TOOL}{json.dumps(self.tool)}" if self.tool else ""
        return self.rule("%json " + json.dumps({**schema, "x-guidance": _COMPACT}) + note)

    def text_before(self, end: str) -> str:
        """Any text, and `end` after it, which is where it ends."""
        return self.rule("/(?s:.*)/", f"[suffix={literal(end)}]")

    def text_before_mark(self, mark: str) -> str:
        """Any text and a mark, which is where it ends."""
        if mark in self._special_ids:
            return self.rule(f"/(?s:.*)/ {self.mark(mark)}")  # no text holds that token
        return self.text_before(mark)

    def grammar(self, start: str) -> str:
        """The whole, for `LLMatcher.grammar_from_lark`."""
        return "\n".join([f"start: {start}", *self._rules])
