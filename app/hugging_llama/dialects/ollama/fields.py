"""marshmallow fields and a schema base that read JSON as Ollama's Go structs do.

Keys match in any case, unknown keys are ignored, `null` is absent, and a wrong type is refused in Go's words.
"""

from collections.abc import Mapping
from typing import Any, cast

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load

from hugging_llama.dialects.json_body import go_kind
from hugging_llama.errors import InvalidRequestError


class GoSchema(Schema):
    """A Go struct. `go_name` is its name in error texts."""

    go_name = "Request"

    class Meta:
        unknown = EXCLUDE
        ordered = True

    @pre_load
    def match_keys(self, data: Any, **_: Any) -> dict[str, Any]:
        """Spell every known key as its field is spelt and drop nulls; the last duplicate wins."""
        if not isinstance(data, Mapping):
            raise ValidationError(f"json: cannot unmarshal {go_kind(data)} into Go value of type api.{self.go_name}")
        names: dict[str, str] = {}
        for name, f in self.fields.items():
            key = f.data_key or name
            names[key.lower()] = key
        matched = {names.get(str(key).lower(), str(key)): value for key, value in data.items()}
        return {key: value for key, value in matched.items() if value is not None}

    def parse(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The payload's values by field name. Raises InvalidRequestError with the first problem's text."""
        try:
            return cast(dict[str, Any], self.load(payload))
        except ValidationError as error:
            param, text = _first_problem(error.messages, ())
            raise InvalidRequestError(text, param=param) from None


def _first_problem(messages: Any, path: tuple[str, ...]) -> tuple[str, str]:
    if isinstance(messages, Mapping):
        key, value = next(iter(messages.items()))
        return _first_problem(value, path if key == "_schema" else (*path, str(key)))
    if isinstance(messages, list) and messages:
        return _first_problem(messages[0], path)
    return ".".join(path), str(messages)


class GoField(fields.Field[Any]):
    """A field that takes exactly the JSON types `kinds` and names Go's type in its error."""

    kinds: tuple[type, ...] = ()
    go_type = ""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, self.kinds) or (isinstance(value, bool) and bool not in self.kinds):
            struct = getattr(self.root, "go_name", "Request")
            raise ValidationError(
                f"json: cannot unmarshal {go_kind(value)} into Go struct field {struct}.{attr} of type {self.go_type}"
            )
        return value


class GoString(GoField):
    kinds, go_type = (str,), "string"


class GoBool(GoField):
    kinds, go_type = (bool,), "bool"


class GoInt(GoField):
    """An integer; 3.0 is one in JSON, 3.5 is not."""

    kinds, go_type = (int, float), "int"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        number = super()._deserialize(value, attr, data, **kwargs)
        if number != int(number):
            struct = getattr(self.root, "go_name", "Request")
            raise ValidationError(
                f"json: cannot unmarshal number {value} into Go struct field {struct}.{attr} of type int"
            )
        return int(number)


class GoMap(GoField):
    kinds, go_type = (dict,), "map[string]interface {}"


class GoStrings(GoField):
    """A list of strings."""

    kinds, go_type = (list,), "[]string"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[str]:
        items = super()._deserialize(value, attr, data, **kwargs)
        for item in items:
            if not isinstance(item, str):
                struct = getattr(self.root, "go_name", "Request")
                raise ValidationError(
                    f"json: cannot unmarshal {go_kind(item)} into Go struct field {struct}.{attr} of type string"
                )
        return cast(list[str], items)


class GoInts(GoField):
    """A list of integers."""

    kinds, go_type = (list,), "[]int"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[int]:
        items = super()._deserialize(value, attr, data, **kwargs)
        for item in items:
            if isinstance(item, bool) or not isinstance(item, int):
                struct = getattr(self.root, "go_name", "Request")
                raise ValidationError(
                    f"json: cannot unmarshal {go_kind(item)} into Go struct field {struct}.{attr} of type int"
                )
        return cast(list[int], items)


class GoAny(fields.Field[Any]):
    """Any JSON value, as it came."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return value
