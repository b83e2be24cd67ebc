"""Fields of request bodies that say what they are: how each one is read, and how the OpenAPI document describes it."""

from collections.abc import Callable, Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields

from hugging_llama.dialects.known_names import Known

JsonSchema = Mapping[str, Any]

JSON_TYPES: Mapping[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


class BodyField(fields.Field[Any]):
    """Any JSON value, as it came; the base of all others.

    `about` is what a reader of the documents is told; `schema` are keywords of JSON Schema, for what the class alone
    does not say; `must`: a request without it is refused, in words that are not marshmallow's; `holds`: the names that
    are looked at in its objects, where that are not all.
    """

    kinds: tuple[type, ...] = ()

    def __init__(
        self,
        *,
        about: str = "",
        schema: JsonSchema | None = None,
        must: bool = False,
        holds: Known | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.about = about
        self.holds = holds
        self.must = must or self.required
        self._keywords = schema or {}

    def json_schema(self, nested: Callable[[Schema], JsonSchema]) -> JsonSchema:
        """What is taken; `nested` names the schema of an object."""
        types = [JSON_TYPES[kind] for kind in self.kinds]
        return {**({"type": types[0] if len(types) == 1 else types} if types else {}), **self._keywords}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return value


class Typed(BodyField):
    """A field of exactly these JSON types, within a range if it is a number; a whole float is an integer, too.

    A dialect words the errors: `type_text` of `name`, `wanted` and `found`, `range_text` of `name` and `bound`.
    """

    type_text = "{name}: expected {wanted}, got {found}"
    range_text = "{name}: must be {bound}"

    def __init__(self, *kinds: type, low: float | None = None, high: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kinds = kinds
        self._low, self._high = low, high

    def json_schema(self, nested: Callable[[Schema], JsonSchema]) -> JsonSchema:
        bounds = {"minimum": self._low, "maximum": self._high}
        return {**super().json_schema(nested), **{key: value for key, value in bounds.items() if value is not None}}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if float in self.kinds and type(value) is int:
            value = self._as_float(value, attr)
        if int in self.kinds and isinstance(value, float) and value.is_integer():
            value = int(value)  # some clients know floats only
        if not isinstance(value, self.kinds) or (isinstance(value, bool) and bool not in self.kinds):
            wanted = " or ".join(JSON_TYPES[kind] for kind in self.kinds)
            raise ValidationError(self.type_text.format(name=attr, wanted=wanted, found=_kind(value)))
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._check_range(value, attr)
        return value

    def _as_float(self, value: int, attr: str | None) -> float:
        try:
            return float(value)
        except OverflowError as error:
            raise ValidationError(self.range_text.format(name=attr, bound="a smaller number")) from error

    def _check_range(self, value: float, attr: str | None) -> None:
        if self._low is not None and not value >= self._low:
            raise ValidationError(self.range_text.format(name=attr, bound=f"at least {self._low:g}"))
        if self._high is not None and not value <= self._high:
            raise ValidationError(self.range_text.format(name=attr, bound=f"at most {self._high:g}"))


def _kind(value: Any) -> str:
    return next((name for kind, name in JSON_TYPES.items() if type(value) is kind), "null")


class Ignored(BodyField):
    """A field that is taken and without effect here; `why` is for the documents."""

    def __init__(self, why: str, **kwargs: Any) -> None:
        super().__init__(about=f"Without effect: {why}.", load_default=None, **kwargs)
        self.why = why

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> None:
        """None: nobody has looked at the value, and nobody shall use it."""


class Refused(BodyField):
    """A field that would change what is asked for in a way that is not served: only a value that says so is taken,
    `false`, 0, an empty text or list, or one of `unless`. An empty object is none: some ask for something by being
    there."""

    def __init__(self, why: str, *, unless: tuple[Any, ...] = (), **kwargs: Any) -> None:
        super().__init__(about=f"Not supported: {why}.", load_default=None, **kwargs)
        self.why = why
        self._harmless = unless

    def json_schema(self, nested: Callable[[Schema], JsonSchema]) -> JsonSchema:
        return {"enum": [None, False, 0, "", [], *self._harmless]}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if value not in (False, "", [], *self._harmless):
            raise ValidationError(f"{attr} is not supported: {self.why}")
        return value
