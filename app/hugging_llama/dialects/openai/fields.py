"""Request bodies: typed fields with OpenAI's sentences; null is absent; what has no effect is told, not hidden."""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, pre_load

from hugging_llama.dialects.body_schema import BodySchema
from hugging_llama.errors import InvalidRequestError

_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


class OpenAISchema(BodySchema):
    """Reads a body. Fields that are not named in it are left out; `ignored` says which."""

    @pre_load
    def drop_nulls(self, data: Any, **_: Any) -> dict[str, Any]:
        """`null` means absent."""
        if not isinstance(data, Mapping):
            raise ValidationError("the request body must be an object")
        return {key: value for key, value in data.items() if value is not None}

    def ignored(self, payload: Mapping[str, Any]) -> list[str]:
        """What the caller gave and nothing is done with."""
        return sorted(key for key, value in payload.items() if value is not None and key not in self.fields)


class Typed(fields.Field[Any]):
    """A field of exactly these JSON types, within a range if it is a number."""

    def __init__(self, *kinds: type, low: float | None = None, high: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kinds = kinds
        self._low, self._high = low, high

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if float in self._kinds and type(value) is int:
            value = _as_float(value, attr)
        if int in self._kinds and isinstance(value, float) and value.is_integer():
            value = int(value)  # some clients know floats only
        if not isinstance(value, self._kinds) or (isinstance(value, bool) and bool not in self._kinds):
            wanted = " or ".join(_KINDS[kind] for kind in self._kinds)
            raise ValidationError(f"Invalid type for '{attr}': expected {wanted}, got {_kind(value)}.")
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._check_range(value, attr)
        return value

    def _check_range(self, value: float, attr: str | None) -> None:
        if self._low is not None and not value >= self._low:
            raise ValidationError(f"Invalid value for '{attr}': must be at least {self._low:g}.")
        if self._high is not None and not value <= self._high:
            raise ValidationError(f"Invalid value for '{attr}': must be at most {self._high:g}.")


class Anything(fields.Field[Any]):
    """Any JSON value, as it came."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return value


def parse_truncation(value: int) -> int | None:
    """vLLM's `truncate_prompt_tokens`: the longest input, -1 for all that the model takes. Raises
    InvalidRequestError."""
    if value == 0:
        raise InvalidRequestError(
            "Invalid value for 'truncate_prompt_tokens': no token would be left.", param="truncate_prompt_tokens"
        )
    return value if value > 0 else None


def _as_float(value: int, attr: str | None) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ValidationError(f"Invalid value for '{attr}': the number is too large.") from error


def _kind(value: Any) -> str:
    return next((name for kind, name in _KINDS.items() if type(value) is kind), "null")
