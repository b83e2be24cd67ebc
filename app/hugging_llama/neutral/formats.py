"""What an answer must be: constraints that the engine enforces token by token."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JsonObject:
    """One JSON object."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A JSON value that is valid by the schema, given as JSON text: the order of its keys is that of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Regex:
    """A text that the whole of the regular expression matches, in the syntax of Rust's regex crate."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some texts, letter by letter."""

    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lark:
    """A text that a context-free grammar allows, in llguidance's dialect of Lark, or EBNF of llama.cpp (GBNF)."""

    text: str


OutputFormat = JsonObject | JsonSchema | Regex | Choice | Lark
