"""A Go template to tokens: text between actions, and what stands in them (https://pkg.go.dev/text/template)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from hugging_llama.dialects.ollama.gotemplate.errors import TemplateError

_SPACE = " \t\r\n"
_COMMENT = re.compile(r"\{\{(?:-[ \t\r\n]+)?/\*.*?\*/([ \t\r\n]+-)?\}\}", re.DOTALL)


class Kind(Enum):
    """`FIELD` is `.Name`, `VARIABLE` is `$` or `$name`, `WORD` a keyword, function or constant. `OPEN` and `CLOSE`
    are the ends of an action."""

    TEXT = auto()
    OPEN = auto()
    CLOSE = auto()
    FIELD = auto()
    DOT = auto()
    VARIABLE = auto()
    WORD = auto()
    STRING = auto()
    NUMBER = auto()
    DECLARE = auto()
    ASSIGN = auto()
    COMMA = auto()
    PIPE = auto()
    LEFT = auto()
    RIGHT = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """`value` is the text itself: of a string what it means, of a field its name. `spaced`: white space before it."""

    kind: Kind
    value: str
    line: int
    spaced: bool = False


_TOKENS = (
    (Kind.FIELD, re.compile(r"\.[^\W\d]\w*")),
    (Kind.NUMBER, re.compile(r"[+-]?\d[\w.]*")),
    (Kind.DOT, re.compile(r"\.(?!\w)")),
    (Kind.VARIABLE, re.compile(r"\$\w*")),
    (Kind.WORD, re.compile(r"[^\W\d]\w*")),
    (Kind.STRING, re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`')),
    (Kind.DECLARE, re.compile(r":=")),
    (Kind.ASSIGN, re.compile(r"=")),
    (Kind.COMMA, re.compile(r",")),
    (Kind.PIPE, re.compile(r"\|")),
    (Kind.LEFT, re.compile(r"\(")),
    (Kind.RIGHT, re.compile(r"\)")),
)
_WHITE = re.compile(r"[ \t\r\n]+")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def tokens(source: str) -> Iterator[Token]:
    """The tokens in order; text is trimmed as its neighbours ask, empty text left out. Raises TemplateError."""
    at, trim = 0, False
    while True:
        opening = source.find("{{", at)
        text = source[at:] if opening < 0 else source[at:opening]
        line = source.count("\n", 0, at) + 1
        text = text.lstrip(_SPACE) if trim else text
        trims_left = source.startswith("{{-", opening) and source[opening + 3 : opening + 4] in tuple(_SPACE)
        text = text.rstrip(_SPACE) if opening >= 0 and trims_left else text
        if text:
            yield Token(Kind.TEXT, text, line)
        if opening < 0:
            return
        if comment := _COMMENT.match(source, opening):
            at, trim = comment.end(), comment[1] is not None
            continue
        found, at, trim = _action(source, opening + (3 if trims_left else 2))
        yield from found


def _action(source: str, at: int) -> tuple[list[Token], int, bool]:
    """The tokens of the action whose inside begins at `at`, where it ends, whether the text after it is trimmed."""
    line = source.count("\n", 0, at) + 1
    found = [Token(Kind.OPEN, "{{", line)]
    while at < len(source):
        white = _WHITE.match(source, at)
        if white:
            line += white[0].count("\n")
            at = white.end()
        trims_right = white is not None and source.startswith("-}}", at)
        if trims_right or source.startswith("}}", at):
            found.append(Token(Kind.CLOSE, "}}", line))
            return found, at + (3 if trims_right else 2), trims_right
        token, end = _token(source, at, line, white is not None)
        line += source.count("\n", at, end)
        at = end
        found.append(token)
    raise TemplateError(line, "an action is not closed")


def _token(source: str, at: int, line: int, spaced: bool) -> tuple[Token, int]:
    for kind, pattern in _TOKENS:
        if match := pattern.match(source, at):
            value = match[0]
            if kind is Kind.FIELD:
                value = value[1:]
            elif kind is Kind.STRING:
                value = _unquoted(value, line)
            return Token(kind, value, line, spaced), match.end()
    raise TemplateError(line, f"{source[at : at + 1]!r} is not expected in an action")


def _unquoted(literal: str, line: int) -> str:
    if literal.startswith("`"):
        return literal[1:-1].replace("\r", "")

    def character(match: re.Match[str]) -> str:
        code = next((int(digits, 16) for digits in match.groups()[:3] if digits), None)
        code = int(match[4], 8) if match[4] else code
        if code is not None and code < 0x110000 and not 0xD800 <= code < 0xE000:
            return chr(code)
        if code is None and match[5] in _ESCAPES:
            return _ESCAPES[match[5]]
        raise TemplateError(line, f"the escape {match[0]!r} is not known")

    return _ESCAPE.sub(character, literal[1:-1])
