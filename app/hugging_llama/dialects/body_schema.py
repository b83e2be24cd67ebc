"""Request bodies as marshmallow schemas: problems become errors of ours, and what has no effect is told."""

from collections.abc import Mapping
from typing import Any, cast

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load

from hugging_llama.dialects.body_fields import BodyField, Ignored, Refused
from hugging_llama.dialects.known_names import Names
from hugging_llama.errors import InvalidRequestError


class BodySchema(Schema):
    """Reads a body; fields that it does not name are left out. `also` are names that say what is known anyway."""

    also: tuple[str, ...] = ()

    class Meta:
        unknown = EXCLUDE

    def parse(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The payload's values by field name. Raises InvalidRequestError with the first problem's text."""
        try:
            return cast(dict[str, Any], self.load(payload))
        except ValidationError as error:
            param, text = _first_problem(error.messages, ())
            refused = {"unsupported": True} if isinstance(self._known().get(param), Refused) else {}
            raise InvalidRequestError(text, param=param or None, **refused) from None

    def __init__(self, **kwargs: Any) -> None:
        self._keys: dict[str, str] = {}
        super().__init__(**kwargs)
        known = {name: field for name, field in self._known().items() if not isinstance(field, Ignored)}
        inner = {name: field.holds for name, field in known.items() if isinstance(field, BodyField) and field.holds}
        self.names = Names(*known, *self.also, inner=inner)

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        self._keys[(field_obj.data_key or field_name).lower()] = field_obj.data_key or field_name

    @pre_load
    def prepare(self, data: Any, **_: Any) -> dict[str, Any]:
        """Spell every known key as its field is spelt and drop nulls; the last duplicate wins."""
        if not isinstance(data, Mapping):
            raise ValidationError(self.not_an_object(data))
        return {self.spelling(str(key)): value for key, value in data.items() if value is not None}

    def not_an_object(self, data: Any) -> str:
        """The error's text."""
        return "the request body must be an object"

    def spelling(self, key: str) -> str:
        """How the schema spells a key of a body: keys match in any case."""
        return self._keys.get(key.lower(), key)

    def ignored(self, payload: dict[str, Any]) -> set[str]:
        """What the caller gave and nothing is done with, within its objects, too; names are spelt in place."""
        found: set[str] = set()
        self.names.walk(payload, "", found)
        return found

    def _known(self) -> dict[str, fields.Field[Any]]:
        """By the keys of a body."""
        return {field.data_key or name: field for name, field in self.fields.items()}


def _first_problem(messages: Any, path: tuple[str, ...]) -> tuple[str, str]:
    if isinstance(messages, Mapping):
        key, value = next(iter(messages.items()))
        return _first_problem(value, path if key == "_schema" else (*path, str(key)))
    if isinstance(messages, list) and messages:
        return _first_problem(messages[0], path)
    return ".".join(path), str(messages)
