"""Which JSON values a schema allows, as far as that shows at first sight."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})


def kind_of(value: Any) -> str:
    """The JSON type of a value, "integer" for a number without a fraction."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    return {float: "number", str: "string", dict: "object", list: "array"}.get(type(value), "")


def is_of(value: Any, kinds: Iterable[Any]) -> bool:
    """Whether a value is of one of these JSON types; an integer is a number, too."""
    kind = kind_of(value)
    return kind in kinds or (kind == "integer" and "number" in kinds)


def same(one: Any, other: Any) -> bool:
    """Whether JSON has the two for equal: 1 is 1.0 there, but not true."""
    if kind_of(one) != kind_of(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def comparable(value: Any) -> Hashable:
    """Something hashable that is equal for values that are the same, and else not."""
    if isinstance(value, dict):
        return "object", frozenset((name, comparable(each)) for name, each in value.items())
    if isinstance(value, list):
        return "array", tuple(map(comparable, value))
    return kind_of(value), value


def options(schema: Mapping[str, Any]) -> list[Any] | None:
    """The values that `enum` and `const` leave, of the types that `type` allows; None without either."""
    if "const" in schema:
        found = [schema["const"]]
        if isinstance(schema.get("enum"), list):
            found = [value for value in found if any(same(value, option) for option in schema["enum"])]
    elif isinstance(schema.get("enum"), list):
        found = schema["enum"]
    else:
        return None
    kinds = _types(schema)
    return [value for value in found if is_of(value, kinds)] if kinds else list(found)


def kinds_of(schema: Any) -> list[str]:
    """The JSON types that a schema allows, [] where it does not say that at first sight."""
    if not isinstance(schema, Mapping):
        return []
    if (given := options(schema)) is not None:
        return sorted({kind_of(value) for value in given})
    kinds = _types(schema)
    if not kinds:
        kinds = ["object"] if "properties" in schema else ["array"] if "items" in schema else []
    branches = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(branches, list):
        return kinds
    found = [kinds_of(branch) for branch in branches]
    if not all(found):
        return kinds
    within = sorted({kind for each in found for kind in each})
    return common(within, kinds) if kinds else within


def common(some: Sequence[str], others: Sequence[str]) -> list[str]:
    """The JSON types that both allow."""
    found = {kind for kind in some if kind in others or (kind == "integer" and "number" in others)}
    return sorted(found | ({"integer"} if "number" in some and "integer" in others else set()))


def _types(schema: Mapping[str, Any]) -> list[str]:
    kind = schema.get("type")
    return [each for each in (kind if isinstance(kind, list) else [kind]) if isinstance(each, str) and each]
