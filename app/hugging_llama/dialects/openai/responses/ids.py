"""Ids of answers and of their items."""

import re
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
_SECRET = re.compile(r"[a-z]+_[0-9a-f]{48}")


def new_id(prefix: str) -> str:
    """Never the same twice, and not to be guessed: who knows an id may read what it stands for."""
    return f"{prefix}_{secrets.token_hex(24)}"


def is_secret(id: str) -> bool:
    """Whether it has the shape of ours; clients' own may be `msg_1`, and every client's at once."""
    return _SECRET.fullmatch(id) is not None


def new_item_id(kind: str) -> str:
    """For an item of this type."""
    return new_id(_PREFIXES[kind])
