"""vLLM's field `structured_outputs`, which several dialects have beside their own format."""

from collections.abc import Mapping
from typing import Any

import msgspec

from hugging_llama.neutral.formats import Choice, JsonObject, JsonSchema, Lark, OutputFormat, Regex


def structured_format(value: Mapping[str, Any]) -> OutputFormat | None:
    """The one constraint in it: `regex`, `choice`, `grammar`, `json` or `json_object`; None if it is anything else."""
    if len(value) != 1:
        return None
    ((kind, given),) = value.items()
    if kind == "regex" and isinstance(given, str):
        return Regex(given)
    if kind == "choice" and isinstance(given, list) and all(isinstance(option, str) for option in given):
        return Choice(tuple(given))
    if kind == "grammar" and isinstance(given, str):
        return Lark(given)
    if kind == "json" and isinstance(given, dict):
        return JsonSchema(msgspec.json.encode(given).decode())
    if kind == "json_object" and given is True:
        return JsonObject()
    return None
