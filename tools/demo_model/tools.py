"""Building a tool, its call and its result, so that names and arguments must be copied from the prompt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.demo_model.draw import Draw
from tools.demo_model.examples import Json, ToolUse
from tools.demo_model.json_answers import to_json
from tools.demo_model.vocabulary import NOUNS, TOOLS, VERBS, WORDS


@dataclass(frozen=True)
class Parameter:
    """`key` finds its value; `names` are what it may be called, by default those of the tool's family."""

    key: str
    type: str
    required: bool = True
    options: Sequence[str] | None = None
    names: Sequence[str] | None = None


@dataclass(frozen=True)
class Outcome:
    """What the tool returns, what the user is told, and what the user wanted."""

    result: str
    answer: str | None
    goal: str


def schema(name: str, description: str, parameters: Sequence[tuple[str, Parameter]]) -> Json:
    properties: Json = {}
    for called, p in parameters:
        properties[called] = {"type": p.type, "description": f"the {called}"}
        if p.options:
            properties[called]["enum"] = list(p.options)
    required = [called for called, p in parameters if p.required]
    spec = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": spec}}


def camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def tool_name(draw: Draw, name: str) -> str:
    """Often a name that cannot be guessed from the question."""
    if draw.chance(0.5):
        return name
    prefixes, suffixes = WORDS["tool_prefixes"], WORDS["tool_suffixes"]
    new_word: Callable[[], str] = draw.pick([lambda: draw.invented_word().lower(), lambda: draw.value(NOUNS)])
    word = new_word()
    form: Callable[[], str] = draw.pick(
        [
            lambda: f"{draw.pick(prefixes)}_{name}",
            lambda: f"{name}_{draw.pick(suffixes)}",
            lambda: camel_case(name),
            lambda: camel_case(f"{draw.pick(prefixes)}_{name}"),
            lambda: f"{word}_{name}",
            lambda: f"{name}_{word}",
            lambda: f"{name}{draw.number(1, 99)}",
            lambda: word,
            lambda: f"{draw.pick(VERBS)}_{word}",
            lambda: f"{word}-{name.replace('_', '-')}",
        ]
    )
    return form()


def parameter_name(draw: Draw, name: str) -> str:
    if draw.chance(0.85):
        return name
    invented = draw.invented_word().lower()
    options = [f"{name}_name", f"the_{name}", f"target_{name}", f"{name}_value", invented, f"user_{name}"]
    return str(draw.pick([*options, name.capitalize()]))


def description(draw: Draw, text: str) -> str:
    if draw.chance(0.6):
        return text
    ends = WORDS["description_ends"]
    return str(draw.pick([text + draw.pick(ends), text + draw.pick(ends), text.lower(), ""]))


def tool_use(
    draw: Draw,
    family: str,
    values: Mapping[str, Any],
    outcome: Outcome,
    parameters: Sequence[Parameter],
    questions: Sequence[str] | None = None,
) -> ToolUse:
    """A tool of a family and a question that needs it."""
    phrases = TOOLS[family]
    name = tool_name(draw, draw.phrase(phrases["names"]))
    named = [(parameter_name(draw, draw.phrase(p.names or phrases["parameters"][p.key])), p) for p in parameters]
    arguments = {called: values[p.key] for called, p in named if values.get(p.key) is not None}
    tool = schema(name, description(draw, draw.phrase(phrases["descriptions"])), named)
    question = draw.ask(draw.phrase(questions or phrases["questions"]).format(**values), 0)
    return ToolUse(tool, name, arguments, question, outcome.result, outcome.answer, outcome.goal)


def result(draw: Draw, key: str, value: Any) -> str:
    """What a tool returns: bare text or JSON."""
    other_key = draw.pick(["result", "value", "output", key])
    return str(draw.pick([str(value), to_json({key: value}), to_json({other_key: value})]))
