"""What stands between the marks of a tool call, in the ways that model families write it, to names and arguments.

Every reader takes the text and the tools' parameter schemas by name, and raises ValueError (or RecursionError) for what
is no call.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from hugging_llama.parsing.elements import json_by, on_lines, read_elements
from hugging_llama.parsing.json_kinds import is_of, kinds_of, options, same
from hugging_llama.parsing.python_calls import python_calls
from hugging_llama.parsing.raw_calls import RawCall, Schemas, check_sendable, checked, decoder, loads

_NAME = r"[^\s<>=\"'(){}\[\]]+"
_FUNCTION = re.compile(rf"\s*<function=({_NAME})\s*>(.*?)(?:</function>\s*)?", re.DOTALL)
_PARAMETER = re.compile(rf"<parameter=({_NAME})\s*>")
_INVOKE = re.compile(r"<invoke name=\"?([^\">]+)\"?\s*>")
_NAMED_PARAMETER = re.compile(r"<parameter name=\"?([^\">]+)\"?\s*>")
_ARGUMENT = re.compile(r"<arg_key>\s*((?:(?!</arg_key>).)*?)\s*</arg_key>\s*<arg_value>", re.DOTALL)
_MISTRAL = re.compile(rf"\s*({_NAME})(?:\[CALL_ID\][^\[\]]*)?(?:\[ARGS\])?\s*(\{{.*)", re.DOTALL)
_KIMI = re.compile(rf"\s*(?:functions\.)?({_NAME}?)(?::\d+)?\s*<\|tool_call_argument_begin\|>(.*)", re.DOTALL)
_FENCED = re.compile(r"\s*```(?:json)?\s*(.*?)\s*(?:```)?\s*", re.DOTALL)
_DSML_INVOKE = re.compile(r"<｜DSML｜invoke name=\"([^\"]+)\"\s*>")
_DSML_PARAMETER = re.compile(r"<｜DSML｜parameter name=\"([^\"]+)\"(?: string=\"(\w+)\")?\s*>")
_BETWEEN = re.compile(r"[\s,;]*")
_PAIRED = (
    ("<arg_value>", "</arg_value>"),
    ("<invoke name=", "</invoke>"),
    ("<｜DSML｜invoke name=", "</｜DSML｜invoke>"),
)
_DEEPSEEK_SEPARATOR = "<｜tool▁sep｜>"


def json_calls(body: str, tools: Schemas) -> list[RawCall]:
    """`{"name": …, "arguments": {…}}` and its relatives: one, a list of them, or some in a row."""
    return [call for value in _values(body) for call in value_calls(value)]


def value_calls(value: Any) -> list[RawCall]:
    """The calls that a JSON value stands for, one or a list of them. Raises ValueError if it is anything else."""
    return [_name_and_arguments(item) for item in (value if isinstance(value, list) else [value])]


def typed_calls(calls: list[RawCall], tools: Schemas) -> list[RawCall]:
    """`calls` whose texts have become what their tools' schemas want."""
    return [(name, _typed(list(arguments.items()), tools.get(name))) for name, arguments in calls]


def llama_calls(body: str, tools: Schemas) -> list[RawCall]:
    """JSON, or Python's calls in a list."""
    try:
        return json_calls(body, tools)
    except ValueError:
        return python_calls(body, tools)


def keyed_calls(body: str, tools: Schemas) -> list[RawCall]:
    """`[{"name": {…}}]`, as Apertus writes it."""
    value = loads(body)
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) and item for item in items):
        raise ValueError("no call")
    return [checked(name, arguments) for item in items for name, arguments in item.items()]


def tagged_calls(body: str, tools: Schemas) -> list[RawCall]:
    """What stands in `<tool_call>`: JSON, or Qwen3-Coder's or GLM's elements."""
    text = body.lstrip()
    if text.startswith(("{", "[")):
        return json_calls(body, tools)
    if text.startswith("<function="):
        return element_calls(body, tools)
    name = text.partition("<arg_key>")[0].strip()
    found, end = read_elements(text, 0, _ARGUMENT, "</arg_value>", json_by(tools.get(name)))
    if not re.fullmatch(_NAME, name) or (found and text[end:].strip()) or (not found and "<arg_key>" in text):
        raise ValueError("no call")
    return [(name, _typed(_pairs(found), tools.get(name)))]


def element_calls(body: str, tools: Schemas) -> list[RawCall]:
    """`<function=name><parameter=key>value</parameter></function>`, as Qwen3-Coder and Seed-OSS write it."""
    match = _FUNCTION.fullmatch(body)
    if not match or (match[2].strip() and "</function>" not in body):
        raise ValueError("no call")
    found, _ = read_elements(match[2], 0, _PARAMETER, "</parameter>", json_by(tools.get(match[1])))
    return [(match[1], _typed(_pairs(found), tools.get(match[1])))]


def invoke_calls(body: str, tools: Schemas) -> list[RawCall]:
    """`<invoke name="f"><parameter name="k">v</parameter></invoke>`, as MiniMax writes it."""

    def read(name: str, at: int) -> tuple[RawCall, int]:
        by = tools.get(name)
        found, at = read_elements(body, at, _NAMED_PARAMETER, "</parameter>", json_by(by), end="</invoke>")
        return (name, _typed(_pairs(found), by)), at

    return _invoked(body, _INVOKE, "</invoke>", read)


def mistral_calls(body: str, tools: Schemas) -> list[RawCall]:
    """A JSON list, or `name[CALL_ID]id[ARGS]{…}` of the later models."""
    if body.lstrip().startswith(("{", "[")):
        return json_calls(body, tools)
    if not (match := _MISTRAL.fullmatch(body)):
        raise ValueError("no call")
    return [(match[1], json_object(match[2]))]


def dsml_calls(body: str, tools: Schemas) -> list[RawCall]:
    """DeepSeek V3.2's elements, of which each parameter says whether it is text or JSON."""

    def read(name: str, at: int) -> tuple[RawCall, int]:
        close, end = "</｜DSML｜parameter>", "</｜DSML｜invoke>"
        found, at = read_elements(body, at, _DSML_PARAMETER, close, lambda match: match[2] != "true", end=end)
        return checked(name, {tag[1]: text if tag[2] == "true" else loads(text) for tag, text in found}), at

    return _invoked(body, _DSML_INVOKE, "</｜DSML｜invoke>", read)


def _invoked(
    body: str, opening: re.Pattern[str], close: str, read: Callable[[str, int], tuple[RawCall, int]]
) -> list[RawCall]:
    """Calls between tags of their own; `read` reads the one that begins at an index."""
    found: list[RawCall] = []
    at = 0
    while (match := opening.search(body, at)) is not None:
        call, at = read(match[1], match.end())
        if (end := body.find(close, at)) < 0:
            raise ValueError("no call")
        found.append(call)
        at = end + len(close)
    if not found:
        raise ValueError("no call")
    return found


def _pairs(found: list[tuple[re.Match[str], str]]) -> list[tuple[str, Any]]:
    return [(tag[1], on_lines(text)) for tag, text in found]


def deepseek_calls(body: str, tools: Schemas) -> list[RawCall]:
    """`function<sep>name` and a fenced JSON object (V3, R1), or `name<sep>{…}` (V3.1 on)."""
    return _separated_calls(body, _DEEPSEEK_SEPARATOR)


def hunyuan_calls(body: str, tools: Schemas) -> list[RawCall]:
    """`function<tool_sep>name` and a fenced JSON object, or Qwen's JSON."""
    return _separated_calls(body, "<tool_sep>") if "<tool_sep>" in body else tagged_calls(body, tools)


def _separated_calls(body: str, mark: str) -> list[RawCall]:
    kind, separator, rest = body.partition(mark)
    if not separator:
        raise ValueError("no call")
    if rest.lstrip().startswith("{"):
        return [checked(kind.strip(), json_object(rest))]
    name, _, arguments = rest.partition("\n")
    fenced = _FENCED.fullmatch(arguments)
    return [checked(name.strip(), json_object(fenced[1] if fenced else arguments))]


def kimi_calls(body: str, tools: Schemas) -> list[RawCall]:
    """`functions.name:0<|tool_call_argument_begin|>{…}`."""
    if not (match := _KIMI.fullmatch(body)):
        raise ValueError("no call")
    return [checked(match[1], json_object(match[2]))]


def json_object(text: str) -> dict[str, Any]:
    """The JSON object that `text` is, {} for none. Raises ValueError, RecursionError."""
    value = loads(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise ValueError("arguments are no object")
    check_sendable(value)
    return value


def is_cut(body: str) -> bool:
    """Whether a closing mark after `body` stands within a value of the call rather than at its end."""
    if "<function=" in body:
        return "</function>" not in body
    for open, close in _PAIRED:
        if open in body:
            return body.rfind(open) > body.rfind(close)
    inside = escaped = False
    for character in body:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = inside
        elif character == '"':
            inside = not inside
    return inside


def _name_and_arguments(value: Any) -> RawCall:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        raise ValueError("no call")
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str) and arguments.strip():
        arguments = loads(arguments)
    return checked(value.get("name", value.get("tool_name")), {} if arguments in (None, "") else arguments)


def _values(text: str) -> list[Any]:
    """JSON values in a row, with commas, semicolons or white space between them; one at least."""
    reader = decoder()
    values: list[Any] = []
    at = len(text) - len(text.lstrip())
    while at < len(text) or not values:
        value, end = reader.raw_decode(text, at)
        values.append(value)
        between = _BETWEEN.match(text, end)
        at = between.end() if between else end
    return values


def _typed(arguments: list[tuple[str, Any]], parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values that a family writes as bare text, with the types that the tool's schema wants."""
    properties = (parameters or {}).get("properties")
    schemas = properties if isinstance(properties, dict) else {}
    return {key: typed_value(value, schemas.get(key)) if isinstance(value, str) else value for key, value in arguments}


def typed_value(text: str, schema: Any) -> Any:
    """What a bare text stands for where a value by `schema` is wanted; the text itself where it may be one."""
    kinds = kinds_of(schema)
    if kinds == ["string"] or not isinstance(schema, Mapping):
        return text
    word = text.strip().lower()
    try:
        value = loads(word if word in ("true", "false", "null", "none") else text)
    except (ValueError, RecursionError):
        return None if text.strip() == "None" and "null" in kinds else text
    if (given := options(schema)) is not None:
        return value if any(same(value, option) for option in given) else text
    if not kinds:  # what it refers to is not looked up: objects and arrays alone are certain to be no text
        return value if isinstance(value, dict | list) and schema.keys() & {"$ref", "allOf"} else text
    return text if "string" in kinds and (isinstance(value, str) or not is_of(value, kinds)) else value
