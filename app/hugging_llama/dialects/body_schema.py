"""Request bodies as marshmallow schemas whose problems become errors of ours."""

from collections.abc import Mapping
from typing import Any, cast

from marshmallow import EXCLUDE, Schema, ValidationError

from hugging_llama.errors import InvalidRequestError


class BodySchema(Schema):
    """Reads a body; fields that it does not name are left out."""

    class Meta:
        unknown = EXCLUDE

    def parse(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The payload's values by field name. Raises InvalidRequestError with the first problem's text."""
        try:
            return cast(dict[str, Any], self.load(payload))
        except ValidationError as error:
            param, text = _first_problem(error.messages, ())
            raise InvalidRequestError(text, param=param or None) from None


def _first_problem(messages: Any, path: tuple[str, ...]) -> tuple[str, str]:
    if isinstance(messages, Mapping):
        key, value = next(iter(messages.items()))
        return _first_problem(value, path if key == "_schema" else (*path, str(key)))
    if isinstance(messages, list) and messages:
        return _first_problem(messages[0], path)
    return ".".join(path), str(messages)
