"""Tokens of a Go template to nodes: control structures, pipelines, and variables in their scopes."""

from dataclasses import dataclass

from hugging_llama.dialects.ollama.gotemplate.errors import TemplateError
from hugging_llama.dialects.ollama.gotemplate.lexer import Kind, Token, tokens
from hugging_llama.dialects.ollama.gotemplate.nodes import (
    Assignment,
    Call,
    Dot,
    Expression,
    Field,
    If,
    Jump,
    Literal,
    Node,
    Output,
    Range,
    Root,
    Text,
    Variable,
    VariableUse,
    With,
)

_MAX_DEPTH = 16
"""Python, to which Jinja compiles, nests no deeper than 20 loops."""

_MAX_ELSE_IFS = 64
_REFUSED = ("define", "template", "block")
_CONSTANTS = {"true": True, "false": False}
_OPERANDS = (Kind.FIELD, Kind.DOT, Kind.VARIABLE, Kind.WORD, Kind.STRING, Kind.NUMBER, Kind.LEFT)


@dataclass(frozen=True, slots=True)
class _Header:
    """What stands after `if`, `with` or `range`; the variables it declares are known in `scope`."""

    value: Expression
    key: Variable | None
    declared: Variable | None


def parse(source: str) -> tuple[Node, ...]:
    """The nodes of a template. Raises TemplateError."""
    parser = _Parser(source)
    nodes, end = parser.nodes(depth=0, in_loop=False)
    if end is not None:
        raise TemplateError(end.line, f"unexpected {{{{ {end.value} }}}}")
    return nodes


class _Parser:
    def __init__(self, source: str) -> None:
        self._tokens = list(tokens(source))
        self._at = 0
        self._scopes: list[dict[str, Variable]] = [{}]
        self._last_line = source.count("\n") + 1

    def nodes(self, *, depth: int, in_loop: bool) -> tuple[tuple[Node, ...], Token | None]:
        """Nodes up to `else`, `end` or the end of the template, and the word, behind which reading goes on."""
        found: list[Node] = []
        while self._at < len(self._tokens):
            token = self._next()
            if token.kind is Kind.TEXT:
                found.append(Text(token.value, token.line))
                continue
            word = self._peek()
            if word.kind is Kind.WORD and word.value in ("else", "end"):
                return tuple(found), self._next()
            found.append(self._action(depth, in_loop))
        return tuple(found), None

    def _action(self, depth: int, in_loop: bool) -> Node:
        token = self._peek()
        word = token.value if token.kind is Kind.WORD else ""
        if word in ("if", "with", "range"):
            self._next()
            return self._branch(word, token.line, depth, in_loop)
        if word in ("break", "continue"):
            self._next()
            self._expect(Kind.CLOSE)
            if not in_loop:
                raise TemplateError(token.line, f"{{{{ {word} }}}} stands outside of a range")
            return Jump(word, token.line)
        if word in _REFUSED:
            raise TemplateError(token.line, f"{{{{ {word} }}}} is not supported")
        node = self._assignment() or Output(self._pipeline(), token.line)
        self._expect(Kind.CLOSE)
        return node

    def _assignment(self) -> Assignment | None:
        following = self._tokens[self._at : self._at + 2]
        if [token.kind for token in following[:1]] != [Kind.VARIABLE] or len(following) < 2:
            return None
        name, sign = following
        if sign.kind not in (Kind.DECLARE, Kind.ASSIGN):
            return None
        self._at += 2
        value = self._pipeline()
        if sign.kind is Kind.DECLARE:
            return Assignment(self._declare(name.value), value, True, name.line)
        variable = self._find(name)
        variable.reassigned = True
        return Assignment(variable, value, False, name.line)

    def _branch(self, word: str, line: int, depth: int, in_loop: bool, *, num_else_ifs: int = 0) -> Node:
        if depth >= _MAX_DEPTH or num_else_ifs > _MAX_ELSE_IFS:
            raise TemplateError(line, "the template is nested too deeply")
        self._scopes.append({})
        header = self._header(is_range=word == "range")
        self._scopes.append({})
        inside = in_loop or word == "range"
        body, end = self.nodes(depth=depth + 1, in_loop=inside)
        self._scopes.pop()
        otherwise: tuple[Node, ...] = ()
        if end is not None and end.value == "else":
            following = self._peek()
            if following.kind is Kind.WORD and following.value in ("if", "with") and word != "range":
                self._next()
                # one `end` closes the whole chain
                nested = self._branch(following.value, line, depth, in_loop, num_else_ifs=num_else_ifs + 1)
                self._scopes.pop()
                return _made(word, header, body, (nested,), line, is_else_if=num_else_ifs > 0)
            self._expect(Kind.CLOSE)
            self._scopes.append({})
            otherwise, end = self.nodes(depth=depth + 1, in_loop=in_loop)
            self._scopes.pop()
        if end is None or end.value != "end":
            raise TemplateError(self._last_line if end is None else end.line, f"{{{{ {word} }}}} has no {{{{ end }}}}")
        self._expect(Kind.CLOSE)
        self._scopes.pop()
        return _made(word, header, body, otherwise, line, is_else_if=num_else_ifs > 0)

    def _header(self, *, is_range: bool) -> _Header:
        names: list[Token] = []
        start = self._at
        while self._peek().kind is Kind.VARIABLE and len(names) < 2:
            names.append(self._next())
            if self._peek().kind is Kind.COMMA and is_range:
                self._next()
            else:
                break
        if not names or self._peek().kind is not Kind.DECLARE:
            self._at = start
            if names and self._peek().kind is Kind.ASSIGN:
                raise TemplateError(names[0].line, "= is not supported here; declare the variable with :=")
            names = []
        else:
            self._next()
        value = self._pipeline()
        self._expect(Kind.CLOSE)
        variables = [self._declare(name.value) for name in names]
        key = variables[0] if len(variables) == 2 else None
        return _Header(value, key, variables[-1] if variables else None)

    def _pipeline(self) -> Expression:
        value = self._command(None)
        while self._peek().kind is Kind.PIPE:
            self._next()
            value = self._command(value)
        return value

    def _command(self, piped: Expression | None) -> Expression:
        """A value, or a function with operands; `piped` becomes the last of these."""
        token = self._peek()
        is_function = token.kind is Kind.WORD and token.value not in (*_CONSTANTS, "nil")
        if not is_function:
            if piped is not None:
                raise TemplateError(token.line, "only a function can follow |")
            value = self._operand()
            if self._peek().kind in _OPERANDS:
                raise TemplateError(token.line, "a value can't be called like a function")
            return value
        self._next()
        operands: list[Expression] = []
        while self._peek().kind in _OPERANDS:
            operands.append(self._operand())
        return Call(token.value, (*operands, *([] if piped is None else [piped])), token.line)

    def _operand(self) -> Expression:
        token = self._next()
        value: Expression
        if token.kind is Kind.FIELD:
            value = Field(Dot(token.line), token.value, token.line)
        elif token.kind is Kind.DOT:
            return Dot(token.line)
        elif token.kind is Kind.VARIABLE:
            is_root = token.value == "$"
            value = Root(token.line) if is_root else VariableUse(self._find(token), token.line)
        elif token.kind is Kind.LEFT:
            value = self._pipeline()
            self._expect(Kind.RIGHT)
        elif token.kind is Kind.WORD and token.value not in (*_CONSTANTS, "nil"):
            value = Call(token.value, (), token.line)
        else:
            return self._constant(token)
        while self._peek().kind is Kind.FIELD and not self._peek().spaced:
            field = self._next()
            value = Field(value, field.value, field.line)
        return value

    def _constant(self, token: Token) -> Expression:
        if token.kind is Kind.STRING:
            return Literal(token.value, token.line)
        if token.kind is Kind.WORD and token.value in _CONSTANTS:
            return Literal(_CONSTANTS[token.value], token.line)
        if token.kind is Kind.NUMBER:
            for read in (int, float):
                try:
                    return Literal(read(token.value), token.line)
                except ValueError:
                    continue
        raise TemplateError(token.line, f"{token.value} is not supported here")

    def _declare(self, name: str) -> Variable:
        variable = Variable(name)
        self._scopes[-1][name] = variable
        return variable

    def _find(self, token: Token) -> Variable:
        for scope in reversed(self._scopes):
            if token.value in scope:
                return scope[token.value]
        raise TemplateError(token.line, f"the variable {token.value} is not declared")

    def _peek(self) -> Token:
        if self._at >= len(self._tokens):
            raise TemplateError(self._last_line, "the template ends too early")
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, kind: Kind) -> None:
        token = self._next()
        if token.kind is not kind:
            raise TemplateError(token.line, f"{token.value!r} is not expected here")


def _made(
    word: str,
    header: _Header,
    body: tuple[Node, ...],
    otherwise: tuple[Node, ...],
    line: int,
    *,
    is_else_if: bool,
) -> Node:
    if word == "if":
        return If(header.value, body, otherwise, header.declared, is_else_if, line)
    if word == "with":
        return With(header.value, body, otherwise, header.declared, line)
    return Range(header.value, header.key, header.declared, body, otherwise, line)
