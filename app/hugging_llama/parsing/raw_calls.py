"""What the readers of calls share: how a call looks before it is one, and JSON whose numbers are all of some use."""

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

RawCall = tuple[str, dict[str, Any]]
Schemas = Mapping[str, Mapping[str, Any]]

_MOST_DIGITS = 4300
"""Of whole numbers: Python reads and writes no longer ones."""


def checked(name: Any, arguments: Any) -> RawCall:
    """Raises ValueError for what is no name with an object of arguments that can be sent."""
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise ValueError("no call")
    check_sendable([name, arguments])
    return name, arguments


def check_sendable(value: Any) -> None:
    """Raises ValueError for what has no encoding: a lone surrogate is legal in JSON's escapes."""
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def loads(text: str) -> Any:
    """A JSON value. Raises ValueError, RecursionError."""
    return json.loads(text, parse_constant=_refuse, parse_float=real, parse_int=whole)


def decoder() -> json.JSONDecoder:
    """Reads as `loads` does."""
    return json.JSONDecoder(parse_constant=_refuse, parse_float=real, parse_int=whole)


def real(text: str) -> float:
    """A number; beyond all doubles the last of them, since a call must not be lost to an exponent."""
    return nearest(float(text))


def whole(text: str) -> int | float:
    """An integer; as a double where it is too long to be read."""
    return int(text) if len(text) <= _MOST_DIGITS else real(text)


def nearest(value: float) -> float:
    """`value`, or the last double before infinity."""
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
