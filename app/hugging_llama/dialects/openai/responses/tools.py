"""Tools of a request: functions, functions in namespaces, and custom tools, whose input is a text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hugging_llama.dialects.openai.render import Json
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.messages import Tool
from hugging_llama.neutral.requests import ToolChoice

CUSTOM_INPUT = "input"
_CUSTOM_PARAMETERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {CUSTOM_INPUT: {"type": "string"}},
    "required": [CUSTOM_INPUT],
    "additionalProperties": False,
}
_LEFT_OUT = ("web_search", "local_shell", "shell", "apply_patch", "image_generation", "tool_search")
"""What agents offer to every model without being asked to, Codex above all, and go on without: a request must not fail
for it. Names of versions follow, as in web_search_preview_2025_03_11."""
_REFUSED = ("file_search", "computer", "code_interpreter", "mcp", "programmatic_tool_calling")
"""What somebody has set up on purpose: an answer without it would be another one."""


class CallName(NamedTuple):
    """How a call of a tool is written; `kind` is the type of the item."""

    kind: str
    name: str
    namespace: str | None = None


@dataclass(slots=True)
class ToolSet:
    """`tools` are what the model is told, `shown` what the answer says of them, `names` how calls are written, by the
    names that the model knows, `ignored` what was left out."""

    tools: list[Tool] = field(default_factory=list)
    shown: list[Json] = field(default_factory=list)
    names: dict[str, CallName] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)
    has_strict: bool = False

    def call_name(self, name: str) -> CallName:
        """Of a call; a model may call what it was not told of."""
        return self.names.get(name) or CallName("function_call", name)

    def add(self, tool: Tool, name: CallName) -> None:
        self.tools.append(tool)
        self.names[tool.name] = name


def full_name(namespace: str | None, name: str) -> str:
    """The name by which a model knows a tool."""
    return f"{namespace}.{name}" if namespace else name


def parse_tools(value: Any) -> ToolSet:
    """Raises InvalidRequestError."""
    found = ToolSet()
    if value is None:
        return found
    if not isinstance(value, list):
        raise InvalidRequestError("Invalid type for 'tools': expected array.", param="tools")
    for number, item in enumerate(value):
        param = f"tools[{number}]"
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(kind, str):
            raise InvalidRequestError("a tool must be an object with a 'type'", param=param)
        if kind.startswith(_LEFT_OUT):
            found.ignored.add(f"tools.{kind}")
            continue
        found.shown.append(_shown(item, kind, param))
        if kind == "namespace":
            _namespace(found, item, param)
        else:
            _tool(found, item, None, param)
    return found


def parse_tool_choice(value: Any, found: ToolSet, *, parallel: bool) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that may be called, and whether one must be. Raises InvalidRequestError."""
    tools = tuple(found.tools)
    if value in (None, "auto", "none", "required"):
        if value == "required" and not tools:
            raise InvalidRequestError("'tool_choice' is 'required', and there are no tools", param="tool_choice")
        return tools, ToolChoice(mode=value or "auto", parallel=parallel)
    if isinstance(value, dict) and value.get("type") == "allowed_tools":
        listed, mode = value.get("tools"), value.get("mode")
        if not isinstance(listed, list) or mode not in ("auto", "required"):
            raise InvalidRequestError("'allowed_tools' needs a mode, auto or required, and tools", param="tool_choice")
        names = {name for item in listed if (name := _chosen(item, found)) is not None}
        if mode == "required" and not names:
            raise InvalidRequestError("'allowed_tools' names none of the tools", param="tool_choice")
        return tuple(tool for tool in tools if tool.name in names), ToolChoice(mode=mode, parallel=parallel)
    name = _chosen(value, found)
    if name is None:
        raise InvalidRequestError(
            "'tool_choice' must be 'auto', 'none', 'required', or name one of the tools", param="tool_choice"
        )
    return tools, ToolChoice(mode="required", name=name, parallel=parallel)


def _chosen(value: Any, found: ToolSet) -> str | None:
    """The full name of the tool that `value` means."""
    if not isinstance(value, dict) or value.get("type") not in ("function", "custom"):
        return None
    name, namespace = value.get("name"), value.get("namespace")
    if not isinstance(name, str):
        return None
    name = full_name(namespace if isinstance(namespace, str) else None, name)
    return name if name in found.names else None


def _namespace(found: ToolSet, item: Json, param: str) -> None:
    name, tools = _name(item, param), item.get("tools")
    if not isinstance(tools, list):
        raise InvalidRequestError("a namespace must have a list of tools", param=f"{param}.tools")
    for number, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise InvalidRequestError("a tool must be an object", param=f"{param}.tools[{number}]")
        _tool(found, tool, name, f"{param}.tools[{number}]")


def _tool(found: ToolSet, item: Json, namespace: str | None, param: str) -> None:
    name, kind = _name(item, param), item.get("type")
    description = item.get("description")
    description = description if isinstance(description, str) else ""
    known = full_name(namespace, name)
    if kind == "function":
        parameters = item.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise InvalidRequestError("the parameters of a tool must be a JSON Schema", param=f"{param}.parameters")
        found.has_strict = found.has_strict or bool(item.get("strict"))
        tool = Tool(name=known, description=description, parameters=parameters)
        found.add(tool, CallName("function_call", name, namespace))
    elif kind == "custom":
        description = "\n\n".join(filter(None, (description, _format(found, item.get("format"), param))))
        tool = Tool(name=known, description=description, parameters=dict(_CUSTOM_PARAMETERS))
        found.add(tool, CallName("custom_tool_call", name, namespace))
    else:
        raise InvalidRequestError("a tool must be a function or a custom tool", param=f"{param}.type")


def _format(found: ToolSet, value: Any, param: str) -> str:
    """What a model is told of the form of a custom tool's input. Nothing holds it to that, so it counts as ignored."""
    if value is None or (isinstance(value, dict) and value.get("type") == "text"):
        return ""
    is_grammar = isinstance(value, dict) and value.get("type") == "grammar"
    if not is_grammar or value.get("syntax") not in ("lark", "regex") or not isinstance(value.get("definition"), str):
        raise InvalidRequestError(
            "a custom tool's format must be text, or a grammar with syntax and definition", param=f"{param}.format"
        )
    found.ignored.add("tools.format")
    return f"The input is a text of this form ({value['syntax']}):\n{value['definition']}"


def _name(item: Json, param: str) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequestError("a tool must have a name", param=f"{param}.name")
    return name


def _shown(item: Json, kind: str, param: str) -> Json:
    if kind.startswith(_REFUSED) or kind not in ("function", "custom", "namespace"):
        raise InvalidRequestError(
            f"this server has no tools of the type {kind[:60]!r}: use functions, custom tools or namespaces of them",
            param=f"{param}.type",
        )
    return {"strict": None, "parameters": None, **item} if kind == "function" else item
