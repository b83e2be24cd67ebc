"""How much a model shall think before it answers."""

from collections.abc import Mapping
from typing import Any

from hugging_llama.errors import InvalidRequestError

EFFORTS: Mapping[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}


def parse_effort(value: Any, param: str) -> bool | str | None:
    """None for the model's own choice. Raises InvalidRequestError."""
    if not value:
        return None
    if not isinstance(value, str) or value not in EFFORTS:
        words = ", ".join(f'"{word}"' for word in ("minimal", "low", "medium", "high", "xhigh", "ultra", "max"))
        raise InvalidRequestError(f'invalid reasoning value: "{value}" (must be {words}, or "none")', param=param)
    return EFFORTS[value]
