"""Request bodies: typed fields with OpenAI's sentences; null is absent; what has no effect is told, not hidden."""

from collections.abc import Mapping
from typing import Any, cast

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load

from hugging_llama.errors import InvalidRequestError

_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


class OpenAISchema(Schema):
    """Reads a body. Fields that are not named in it are left out; `ignored` says which."""

    class Meta:
        unknown = EXCLUDE

    @pre_load
    def drop_nulls(self, data: Any, **_: Any) -> dict[str, Any]:
        """`null` means absent."""
        if not isinstance(data, Mapping):
            raise ValidationError("the request body must be an object")
        return {key: value for key, value in data.items() if value is not None}

    def parse(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The payload's values by field name. Raises InvalidRequestError with the first problem's text."""
        try:
            return cast(dict[str, Any], self.load(payload))
        except ValidationError as error:
            param, text = _first_problem(error.messages, ())
            raise InvalidRequestError(text, param=param or None) from None

    def ignored(self, payload: Mapping[str, Any]) -> list[str]:
        """What the caller gave and nothing is done with."""
        return sorted(key for key, value in payload.items() if value is not None and key not in self.fields)


def _first_problem(messages: Any, path: tuple[str, ...]) -> tuple[str, str]:
    if isinstance(messages, Mapping):
        key, value = next(iter(messages.items()))
        return _first_problem(value, path if key == "_schema" else (*path, str(key)))
    if isinstance(messages, list) and messages:
        return _first_problem(messages[0], path)
    return ".".join(path), str(messages)


class Typed(fields.Field[Any]):
    """A field of exactly these JSON types, within a range if it is a number."""

    def __init__(self, *kinds: type, low: float | None = None, high: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kinds = kinds
        self._low, self._high = low, high

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if float in self._kinds and type(value) is int:
            value = float(value)
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


def _kind(value: Any) -> str:
    return next((name for kind, name in _KINDS.items() if type(value) is kind), "null")
