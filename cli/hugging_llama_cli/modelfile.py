"""Modelfiles, as Ollama writes them: what a model is made from and what is said of it.

A line begins with a command in any case of letters; its value ends with the line, or, if it begins with one or three
double quotes, with the first line that ends with as many. Between quotes nothing is escaped. `#` begins a comment where
a command could begin.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hugging_llama_cli.errors import CliError

ROLES = ("system", "user", "assistant")
_COMMANDS = ("from", "license", "template", "system", "adapter", "parameter", "message", "requires")
_REFUSED: Mapping[str, str] = {
    "renderer": "RENDERER is not supported: prompts are written by the model's chat template, which TEMPLATE replaces",
    "parser": "PARSER is not supported: thinking and tool calls are found by the model's chat template",
    "draft": "DRAFT is not supported: PARAMETER draft_num_predict guesses tokens without a second model",
}
_QUOTES = ('"""', '"')


class ModelfileError(CliError):
    """A line that makes no sense, by its number from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"(line {line}): {message}")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One command, in lower case. `key` is the name of a PARAMETER or the role of a MESSAGE, else ""."""

    line: int
    command: str
    value: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Modelfile:
    """What the instructions come to. Of what may stand once only, the last one counts."""

    base: Instruction
    adapter: Instruction | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    requires: str = ""


def parse_modelfile(text: str) -> Modelfile:
    """Raises ModelfileError, CliError where no line is to blame."""
    found: dict[str, list[Instruction]] = {command: [] for command in _COMMANDS}
    for instruction in instructions(text):
        found[instruction.command].append(instruction)
    for command in ("from", "adapter"):
        if len(found[command]) > 1:
            raise ModelfileError(found[command][1].line, f"there may be one {command.upper()} only")
    if not found["from"]:
        raise CliError("no FROM line")

    def last(command: str) -> str:
        return found[command][-1].value if found[command] else ""

    return Modelfile(
        base=found["from"][0],
        adapter=found["adapter"][0] if found["adapter"] else None,
        parameters=tuple((each.key, each.value) for each in found["parameter"]),
        template=last("template"),
        system=last("system"),
        licenses=tuple(each.value for each in found["license"]),
        messages=tuple((each.key, each.value) for each in found["message"]),
        requires=last("requires"),
    )


def instructions(text: str) -> Iterator[Instruction]:
    """The commands in their order, each known here. Raises ModelfileError."""
    lines = enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1)
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, rest = _word(line)
        command = name.lower()
        if refusal := _REFUSED.get(command):
            raise ModelfileError(number, refusal)
        if command not in _COMMANDS:
            known = ", ".join(f'"{each}"' for each in _COMMANDS[:-1])
            raise ModelfileError(number, f'command must be one of {known}, or "{_COMMANDS[-1]}"')
        key, rest = _word(rest) if command in ("parameter", "message") else ("", rest)
        if command == "message" and key not in ROLES:
            raise ModelfileError(number, 'message role must be one of "system", "user", or "assistant"')
        if not rest.strip():
            raise ModelfileError(number, f"{name.upper()} {key}".rstrip() + " has no value")
        value = _value(number, rest, lines)
        if command in ("from", "adapter") and not value.strip():
            raise ModelfileError(number, f"{name.upper()} has no value")
        yield Instruction(number, command, value, key)


def _value(number: int, rest: str, lines: Iterator[tuple[int, str]]) -> str:
    """The value that begins with `rest`; of the next lines those are taken that belong to it. Raises ModelfileError."""
    if (value := _unquoted(rest.strip())) is not None:
        return value
    quotes = next(each for each in _QUOTES if rest.lstrip().startswith(each))
    parts = [rest]
    for _, more in lines:
        parts.append(more)
        if more.rstrip().endswith(quotes):
            return "\n".join(parts).strip()[len(quotes) : -len(quotes)]
    raise ModelfileError(number, "the quotes of this value are never closed")


def _word(text: str) -> tuple[str, str]:
    """The first word, and what follows it."""
    first, *rest = text.split(None, 1) or [""]
    return first, rest[0] if rest else ""


def _unquoted(text: str) -> str | None:
    """The value that a stripped text says, None while its quotes are open."""
    for quotes in _QUOTES:
        if text.startswith(quotes):
            is_closed = len(text) >= 2 * len(quotes) and text.endswith(quotes)
            return text[len(quotes) : -len(quotes)] if is_closed else None
    return text
