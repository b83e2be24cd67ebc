"""How a setting is described: once, beside its field. From there come flags, variables, keys, checks and documents."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from hugging_llama_config.kinds import Kind

PREFIX = "HUGGING_LLAMA_"
LARGEST = 2**63 - 1
GUNICORN, WEB, ENGINE, CLI = "gunicorn", "web", "engine", "cli"
_KEY = "setting"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """All that is known of a setting.

    `read_by`: the processes that it concerns. `ollama`: Ollama's variables that mean the same, and
    `ollama_zero_is_automatic` that their 0 leaves the choice to the server. `flags`: further flags of `serve`.
    `origin`: what the default is where that depends on the machine.
    """

    name: str = ""
    default: Any = None
    kind: Kind
    meaning: str = ""
    read_by: tuple[str, ...] = ()
    ollama: tuple[str, ...] = ()
    ollama_zero_is_automatic: bool = False
    flags: tuple[str, ...] = ()
    origin: str = ""
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = math.inf
    is_secret: bool = False

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The flag of `serve`; "" for a secret, as everybody on the machine sees the flags of a process."""
        return "" if self.is_secret else "--" + self.name.replace("_", "-")

    @property
    def values(self) -> str:
        """What is allowed, in words."""
        if self.choices:
            return ", ".join(self.choices)
        words = self.kind.words
        if self.high < LARGEST:
            return f"{words} from {self.kind.show(self.low)} to {self.kind.show(self.high)}"
        return f"{words}, at least {self.kind.show(self.low)}" if self.low else words

    def check(self, value: Any) -> None:
        """Raises ValueError for a value that is out of bounds."""
        if self.choices and value not in self.choices:
            raise ValueError(f"{value!r} is none of {', '.join(self.choices)}")
        if isinstance(value, int | float):
            high = min(self.high, LARGEST) if isinstance(self.default, int) else self.high
            if not self.low <= value <= high:
                allowed = f"from {self.low} to {high}" if high < LARGEST else f"at least {self.low}"
                raise ValueError(f"must be {allowed}, not {value}")

    def parse(self, text: str) -> Any:
        """The value that a text stands for. Raises ValueError."""
        value = self.kind.read(text.strip())
        self.check(value)
        return value

    def parse_toml(self, value: Any) -> Any:
        """The value that a TOML file gives. Raises ValueError."""
        # True is an int to Python, and to no one else
        if type(value) not in self.kind.toml:
            raise ValueError(f"must be {self.values}, not {_toml_words(value)}")
        if not isinstance(value, list):
            return self.parse(str(value))
        if wrong := [part for part in value if type(part) is not str]:
            raise ValueError(f"must be a list of texts, and has {_toml_words(wrong[0])}")
        if split := [part for part in value if self.kind.separator in part]:
            raise ValueError(f"{split[0]!r} may not have a {self.kind.separator!r}")
        return self.parse(self.kind.separator.join(value))

    def parse_given(self, value: Any) -> Any:
        """The value that a program gives: of the setting's own type, or as in a file. Raises ValueError."""
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if value in ("", ()) and isinstance(value, type(self.default)):
            return value
        return self.parse_toml(list(value) if isinstance(value, tuple) else value)

    def show(self, value: Any) -> str:
        """The value for people; nothing of a secret."""
        if self.is_secret:
            return "(set)" if value else ""
        return self.kind.show(value)

    @property
    def default_text(self) -> str:
        """The default for people."""
        return self.origin or self.kind.show(self.default)


def setting(default: _T, kind: Kind, read_by: tuple[str, ...], meaning: str, **facts: Any) -> _T:
    """A field of Settings with its description; `facts` are further fields of Setting."""
    described = Setting(kind=kind, meaning=meaning, read_by=read_by, **facts)
    made: _T = field(default=default, repr=not described.is_secret, metadata={_KEY: described})
    return made


def described_fields(settings: type) -> Mapping[str, Setting]:
    """The settings by name, in the order of their fields."""
    return {f.name: replace(f.metadata[_KEY], name=f.name, default=f.default) for f in fields(settings)}


def _toml_words(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"
