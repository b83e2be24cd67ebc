"""What Ollama gives to a template, by type, and where the same lies in what a chat template is given.

Struct types of Ollama's template package and api types; `item` and `fields` are empty where a type has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto


class Basic(Enum):
    """How values of a type are compared and written. `JSON`: written as JSON text."""

    STRING = auto()
    BOOL = auto()
    INT = auto()
    FLOAT = auto()
    LIST = auto()
    MAP = auto()
    JSON = auto()
    STRUCT = auto()
    MIXED = auto()
    ANY = auto()


@dataclass(frozen=True, slots=True)
class Type:
    """`fields`: by its name in Go a Jinja expression over `{0}`, and the type of what that gives."""

    name: str
    basic: Basic
    item: Type | None = None
    fields: Mapping[str, tuple[str, Type]] = field(default_factory=dict, hash=False, compare=False)

    @property
    def is_scalar(self) -> bool:
        return self.basic in (Basic.STRING, Basic.BOOL, Basic.INT, Basic.FLOAT, Basic.ANY)


STRING = Type("text", Basic.STRING)
BOOL = Type("truth value", Basic.BOOL)
INT = Type("number", Basic.INT)
FLOAT = Type("decimal number", Basic.FLOAT)
ANY = Type("value of any type", Basic.ANY)
MIXED = Type("value of one of several types", Basic.MIXED)
ROOT = Type("template's data", Basic.STRUCT)
STRINGS = Type("list of texts", Basic.LIST, STRING)
VALUES = Type("list of values", Basic.LIST, ANY)

_CALL_FUNCTION = Type(
    "call's function",
    Basic.STRUCT,
    fields={
        "Index": ("({0}.index or 0)", INT),
        "Name": ("{0}.name", STRING),
        "Arguments": ("({0}.arguments or {{}})", Type("call's arguments", Basic.JSON, ANY)),
    },
)
_CALL = Type(
    "tool call",
    Basic.STRUCT,
    fields={"ID": ("({0}.id or '')", STRING), "Function": ("{0}.function", _CALL_FUNCTION)},
)
_MESSAGE = Type(
    "message",
    Basic.STRUCT,
    fields={
        "Role": ("{0}.role", STRING),
        "Content": ("{0}.content", STRING),
        "Thinking": ("({0}.reasoning_content or '')", STRING),
        "Images": ("[]", VALUES),
        "ToolCalls": ("({0}.tool_calls or [])", Type("list of tool calls", Basic.LIST, _CALL)),
        "ToolName": ("({0}.name or '')", STRING),
        "ToolCallID": ("({0}.tool_call_id or '')", STRING),
    },
)
PROPERTY_TYPE = Type("property's type", Basic.LIST, STRING)
PROPERTY = Type(
    "property",
    Basic.STRUCT,
    fields={
        "Type": ("{0}.type", PROPERTY_TYPE),
        "Items": ("{0}.get('items')", ANY),
        "Description": ("({0}.description or '')", STRING),
        "Enum": ("({0}.enum or [])", VALUES),
        "Required": ("({0}.required or [])", STRINGS),
    },
)
_PARAMETERS = Type(
    "tool's parameters",
    Basic.JSON,
    fields={
        "Type": ("({0}.type or '')", STRING),
        "Required": ("({0}.required or [])", STRINGS),
        "Properties": ("({0}.properties or {{}})", Type("tool's properties", Basic.JSON, PROPERTY)),
    },
)
_FUNCTION = Type(
    "tool's function",
    Basic.JSON,
    fields={
        "Name": ("{0}.name", STRING),
        "Description": ("({0}.description or '')", STRING),
        "Parameters": ("{0}.parameters", _PARAMETERS),
    },
)
_TOOL = Type("tool", Basic.JSON, fields={"Type": ("{0}.type", STRING), "Function": ("{0}.function", _FUNCTION)})
TOOLS = Type("list of tools", Basic.JSON, _TOOL)
MESSAGES = Type("list of messages", Basic.LIST, _MESSAGE)


def is_map(type: Type) -> bool:
    """Whether a range over it gives names and values rather than numbers and values."""
    return type.basic is Basic.MAP or (type.basic is Basic.JSON and type.item is not None and type is not TOOLS)
