"""Nodes of a Go template to a Jinja chat template."""

from collections.abc import Mapping

from hugging_llama.dialects.ollama.gotemplate import macros
from hugging_llama.dialects.ollama.gotemplate.errors import TemplateError
from hugging_llama.dialects.ollama.gotemplate.expressions import Scope, Value, quoted, value, written
from hugging_llama.dialects.ollama.gotemplate.nodes import (
    Assignment,
    Dot,
    Field,
    If,
    Node,
    Output,
    Range,
    Text,
    Variable,
    With,
    cut_after,
    field_names,
)
from hugging_llama.dialects.ollama.gotemplate.values import (
    BOOL,
    INT,
    MESSAGES,
    ROOT,
    STRING,
    TOOLS,
    Basic,
    is_map,
)

_THINKING = {
    "Think": Value("enable_thinking", BOOL),
    "IsThinkSet": Value("(enable_thinking is defined)", BOOL),
    "ThinkLevel": Value("(reasoning_effort or ('medium' if enable_thinking else ''))", STRING),
    "Suffix": Value("(suffix or '')", STRING),
}
_CHAT: Mapping[str, Value] = {
    **_THINKING,
    "System": Value("system", STRING),
    "Prompt": Value("(prompt if suffix else '')", STRING),  # beside messages there is none
    "Response": Value("''", STRING),
    "Messages": Value("go.turns", MESSAGES),
    "Tools": Value("(tools or [])", TOOLS),
}
_EXCHANGE: Mapping[str, Value] = {
    **_THINKING,
    "System": Value("system", STRING),
    "Prompt": Value("prompt", STRING),
    "Response": Value("response", STRING),
}
_LAST: Mapping[str, Value] = {
    **_THINKING,
    **{name: Value(f"now.{name.lower()}", STRING) for name in ("System", "Prompt", "Response")},
}


def translated(nodes: tuple[Node, ...]) -> str:
    """The Jinja template that writes what Ollama writes by `nodes`. Raises TemplateError."""
    names = field_names(nodes)
    return _chat(nodes, names) if "messages" in names else _exchanges(nodes, names)


def _chat(nodes: tuple[Node, ...], names: set[str]) -> str:
    writer = _Writer(_CHAT)
    body = writer.body(nodes)
    text = writer.macros()
    if "suffix" in names:  # where there is a gap to fill, that is all a template is told
        hidden = ["messages"] + (["tools"] if "tools" in names else [])
        text += "{%- if suffix -%}" + "".join(f"{{%- set {name} = [] -%}}" for name in hidden) + "{%- endif -%}\n"
    text += macros.SYSTEM if "system" in names else ""
    return text + macros.TURNS + body


def _exchanges(nodes: tuple[Node, ...], names: set[str]) -> str:
    """A template of the older kind. Ollama adds the response where it is not named."""
    if "response" not in names:
        line = nodes[-1].line if nodes else 1
        nodes = (*nodes, Output(Field(Dot(line), "Response", line), line))
    every, last = _Writer(_EXCHANGE), _Writer(_LAST)
    whole = every.body(nodes)
    cut = last.body(cut_after(nodes, "Response")[0])
    head = every.macros() + "{%- macro exchange(system, prompt, response) -%}\n" + whole + "{%- endmacro -%}\n"
    chat = macros.TURNS + macros.EXCHANGES + cut
    if "suffix" not in names:
        return head + chat
    return head + "{%- if suffix -%}\n{{- exchange('', prompt, '') -}}\n{%- else -%}\n" + chat + "{%- endif -%}\n"


class _Writer:
    """Writes one body. Every variable gets a Jinja name of its own: Go's scopes are narrower than Jinja's."""

    def __init__(self, root: Mapping[str, Value]) -> None:
        self._scope = Scope(root)
        self._num_names = 0

    def macros(self) -> str:
        return "".join(text for name, text in macros.MACROS.items() if name in self._scope.macros)

    def body(self, nodes: tuple[Node, ...]) -> str:
        return self._nodes(nodes, Value("", ROOT))

    def _nodes(self, nodes: tuple[Node, ...], dot: Value) -> str:
        return "".join(self._node(node, dot) for node in nodes)

    def _node(self, node: Node, dot: Value) -> str:
        if isinstance(node, Text):
            return f"{{{{- {quoted(node.value)} -}}}}\n"
        if isinstance(node, Output):
            return f"{{{{- {written(value(node.value, dot, self._scope), self._scope, node.line)} -}}}}\n"
        if isinstance(node, Assignment):
            return self._assignment(node, value(node.value, dot, self._scope))
        if isinstance(node, If):
            return self._if(node, dot)
        if isinstance(node, With):
            return self._with(node, dot)
        if isinstance(node, Range):
            return self._range(node, dot)
        return f"{{%- {node.word} -%}}\n"

    def _assignment(self, node: Assignment, new: Value) -> str:
        if node.declares:
            return self._declared(node.variable, new, node.line)
        old = self._scope.variables[node.variable]
        if old.type.name != new.type.name:
            raise TemplateError(
                node.line, f"the variable {node.variable.name} is a {old.type.name} and can't become a {new.type.name}"
            )
        return f"{{%- set {old.code} = {new.code} -%}}\n"

    def _declared(self, variable: Variable, new: Value, line: int) -> str:
        """A variable that changes is a namespace: what a loop sets is else forgotten at its end."""
        if new.type is ROOT:
            raise TemplateError(line, "$ can't be kept in a variable")
        name = self._name(variable.name.strip("$_") or "unnamed")
        if not variable.reassigned:
            self._scope.variables[variable] = Value(name, new.type)
            return f"{{%- set {name} = {new.code} -%}}\n"
        self._scope.variables[variable] = Value(f"{name}.value", new.type)
        return f"{{%- set {name} = namespace(value={new.code}) -%}}\n"

    def _if(self, node: If, dot: Value, *, keyword: str = "if") -> str:
        condition = value(node.condition, dot, self._scope)
        text = ""
        if node.declared:
            text = self._declared(node.declared, condition, node.line)
            condition = self._scope.variables[node.declared]
        text += f"{{%- {keyword} {_truth(condition)} -%}}\n" + self._nodes(node.body, dot)
        match node.otherwise:
            case (If() as nested,) if nested.is_else_if and not nested.declared:
                return text + self._if(nested, dot, keyword="elif")
            case ():
                return text + "{%- endif -%}\n"
        return text + "{%- else -%}\n" + self._nodes(node.otherwise, dot) + "{%- endif -%}\n"

    def _with(self, node: With, dot: Value) -> str:
        variable = node.declared or Variable("with")
        text = self._declared(variable, value(node.value, dot, self._scope), node.line)
        held = self._scope.variables[variable]
        text += f"{{%- if {_truth(held)} -%}}\n" + self._nodes(node.body, held)
        text += "{%- else -%}\n" + self._nodes(node.otherwise, dot) if node.otherwise else ""
        return text + "{%- endif -%}\n"

    def _range(self, node: Range, dot: Value) -> str:
        over = value(node.over, dot, self._scope)
        if over.type.item is None:
            raise TemplateError(node.line, f"range goes over lists and maps, not over a {over.type.name}")
        item = self._name("item")
        key_name = self._name("key")
        held = Value(item, over.type.item)
        by_name = is_map(over.type)
        text = (
            f"{{%- for {f'{key_name}, ' if by_name else ''}{item} in {over.code}{' | items' if by_name else ''} -%}}\n"
        )
        if node.key:
            key = Value(key_name, STRING) if by_name else Value("loop.index0", INT)
            text += self._declared(node.key, key, node.line)
        if node.value:
            text += self._declared(node.value, held, node.line)
        text += self._nodes(node.body, held) + "{%- endfor -%}\n"
        if not node.otherwise:
            return text
        # not `else` of the loop: in Jinja a `break` in the first turn leads there, too
        return f"{{%- if {over.code} -%}}\n{text}{{%- else -%}}\n{self._nodes(node.otherwise, dot)}{{%- endif -%}}\n"

    def _name(self, base: str) -> str:
        self._num_names += 1
        return f"{base if base.isascii() else 'v'}_{self._num_names}"


def _truth(of: Value) -> str:
    """Structs are true in Go whatever they hold."""
    is_struct = of.type.basic in (Basic.STRUCT, Basic.JSON) and of.type.item is None
    return "true" if is_struct else of.code
