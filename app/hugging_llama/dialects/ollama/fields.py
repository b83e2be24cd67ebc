"""marshmallow fields and a schema base that read JSON as Ollama's Go structs do.

Keys match in any case, unknown keys are ignored, `null` is absent, and a wrong type is refused in Go's words.
"""

from collections.abc import Callable, Mapping
from typing import Any

from marshmallow import Schema, ValidationError

from hugging_llama.dialects.body_fields import BodyField, JsonSchema
from hugging_llama.dialects.body_schema import BodySchema
from hugging_llama.dialects.json_body import go_kind
from hugging_llama.dialects.known_names import AtMost

_MAX_STRUCTS = 10_000


class GoSchema(BodySchema):
    """A Go struct. `go_name` is its name in error texts."""

    go_name = "Request"

    def not_an_object(self, data: Any) -> str:
        return f"json: cannot unmarshal {go_kind(data)} into Go value of type api.{self.go_name}"


class GoField(BodyField):
    """A field that takes exactly the JSON types `kinds` and names Go's type in its error."""

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

    def json_schema(self, nested: Callable[[Schema], JsonSchema]) -> JsonSchema:
        return {**super().json_schema(nested), "type": "integer"}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        number = super()._deserialize(value, attr, data, **kwargs)
        if isinstance(number, float) and not number.is_integer():
            struct = getattr(self.root, "go_name", "Request")
            raise ValidationError(
                f"json: cannot unmarshal number {value} into Go struct field {struct}.{attr} of type int"
            )
        return int(number)


class GoMap(GoField):
    kinds, go_type = (dict,), "map[string]interface {}"


class GoStruct(GoField):
    """A nested struct."""

    def __init__(self, struct: type[GoSchema], missing: str = "", **kwargs: Any) -> None:
        self._struct = struct()
        super().__init__(error_messages={"required": missing}, holds=self._struct.names, **kwargs)

    def json_schema(self, nested: Callable[[Schema], JsonSchema]) -> JsonSchema:
        return nested(self._struct)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return self._struct.load(value)


class GoList(GoField):
    """A list. Reading it ends at the first item that is wrong, and structs are counted before they are read: a body
    may hold a million of them, and no other request is served meanwhile."""

    kinds = (list,)

    def __init__(self, item: GoField, **kwargs: Any) -> None:
        super().__init__(holds=AtMost(_MAX_STRUCTS, item.holds) if item.holds else None, **kwargs)
        self._item = item
        self.go_type = f"[]{item.go_type or 'struct'}"

    def json_schema(self, nested: Callable[[Schema], JsonSchema]) -> JsonSchema:
        return {**super().json_schema(nested), "items": self._item.json_schema(nested)}

    def _bind_to_schema(self, field_name: str, parent: Any) -> None:
        super()._bind_to_schema(field_name, parent)
        self._item._bind_to_schema(field_name, self)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[Any]:
        items = super()._deserialize(value, attr, data, **kwargs)
        if isinstance(self._item, GoStruct) and len(items) > _MAX_STRUCTS:
            raise ValidationError(f"{attr} has {len(items)} items, at most {_MAX_STRUCTS} are taken")
        return [self._item._deserialize(item, attr, data) for item in items]
