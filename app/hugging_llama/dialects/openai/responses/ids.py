"""Ids of answers and of their items."""

import secrets
from collections.abc import Mapping

RESPONSE = "resp"
_PREFIXES: Mapping[str, str] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}


def new_id(prefix: str) -> str:
    """Never the same twice, and not to be guessed: who knows an id may read what it stands for."""
    return f"{prefix}_{secrets.token_hex(24)}"


def new_item_id(kind: str) -> str:
    """For an item of this type."""
    return new_id(_PREFIXES[kind])
