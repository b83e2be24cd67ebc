"""A stranger's JSON Schema made ready for llguidance: what that would not keep is put differently or refused."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from hugging_llama.engine.grammars.keywords import MAPS, asked, count_of, mapped, required_of, resolved, subschemas
from hugging_llama.errors import GrammarError

_MAX_DEPTH = 100
_DIGITS_BESIDE_A_BOUND = 9


def prepared(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema for llguidance. Raises GrammarError for what it would not keep."""
    if depth_of(schema) > _MAX_DEPTH:
        raise GrammarError(f"the JSON Schema is nested more than {_MAX_DEPTH} levels deep")
    _check_references(schema)
    made = _made(schema, merges=_has_merges(schema))
    assert isinstance(made, dict)
    return made


def depth_of(value: Any) -> int:
    """How deep containers are nested, found without recursion; it stops once that is too deep."""
    level, depth = [value], 0
    while level and depth <= _MAX_DEPTH:
        depth += 1
        children = [item.values() if isinstance(item, dict) else item for item in level]
        level = [child for items in children for child in items if isinstance(child, dict | list)]
    return depth


def _made(schema: Any, *, merges: bool) -> Any:
    if isinstance(schema, list):  # `items` as it was before 2020
        return [_made(each, merges=merges) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    if "x-guidance" in schema:
        raise GrammarError("x-guidance is taken from nobody: leave it out of the schema")
    _check_counts(schema)
    found = dict(schema)
    if found.get("uniqueItems") is False:
        del found["uniqueItems"]
    _move_bounds(found, always=merges)
    for key in {key for key, _ in subschemas(schema)}:
        value = found[key]
        if isinstance(value, Mapping) and key in MAPS:
            found[key] = {name: _made(each, merges=merges) for name, each in value.items()}
        else:
            found[key] = _made(value, merges=merges)
    return found


def _check_counts(schema: Mapping[str, Any]) -> None:
    """Names that are open may come twice, and llguidance counts them twice."""
    missing = (count_of(schema, "minProperties") or 0) - len(required_of(schema))
    is_open = schema.get("additionalProperties") is not False or bool(mapped(schema, "patternProperties"))
    if missing > 1 and is_open:
        raise GrammarError(
            "minProperties can't be enforced where names are open: "
            "put names into `required`, or list them in `properties` and set additionalProperties to false"
        )


def _move_bounds(schema: dict[str, Any], *, always: bool) -> None:
    """llguidance lets a whole number through that an exclusive bound excludes, where the other bound is less than 1
    away: the bound moves by a billionth of what is between them. `always`: where the other one may be elsewhere."""
    for key, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(key) is True and _is_number(schema.get(inclusive)):  # as it was before draft 6
            schema[key] = schema.pop(inclusive)
    if schema.get("type") == "integer":
        return
    low = [Decimal(repr(schema[key])) for key in ("minimum", "exclusiveMinimum") if _is_number(schema.get(key))]
    high = [Decimal(repr(schema[key])) for key in ("maximum", "exclusiveMaximum") if _is_number(schema.get(key))]
    between = min(high) - max(low) if low and high else Decimal(2)
    if between <= 0 or (between >= 1 and not always):
        return
    step = Decimal(10) ** (min(between, Decimal(1)).adjusted() - _DIGITS_BESIDE_A_BOUND)
    for key, inclusive, sign in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        bound = schema.get(key, 0.5)
        if not _is_number(bound) or bound != int(bound):
            continue
        moved = float(Decimal(repr(bound)) + sign * step)
        if moved == bound or (low and high and not max(low) < Decimal(repr(moved)) < min(high)):
            raise GrammarError(f"{key} is too close to the other bound to be enforced")
        del schema[key]
        others = [moved, *([schema[inclusive]] if _is_number(schema.get(inclusive)) else [])]
        schema[inclusive] = max(others) if sign > 0 else min(others)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _has_merges(schema: Any) -> bool:
    """Whether keywords of several schemas apply to one value, so that bounds may stand apart."""
    if not isinstance(schema, Mapping):
        return isinstance(schema, list) and any(map(_has_merges, schema))
    keys = asked(schema)
    if "allOf" in keys or keys > {"$ref"} or (keys > {"anyOf"} or keys > {"oneOf"}):
        return True
    return any(_has_merges(each) for _, each in subschemas(schema))


def _check_references(schema: Mapping[str, Any]) -> None:
    """Raises GrammarError for a reference to nothing but itself."""
    fine: set[str] = set()
    for start in targets_of(schema):
        passed: list[str] = []
        target: Any = start
        while isinstance(target, str) and target not in fine:
            if target in passed:
                raise GrammarError(f"{target[:80]} refers to itself and to nothing else")
            passed.append(target)
            try:
                found = resolved(schema, target)
            except GrammarError:
                break  # llguidance says what is not there, and knows more kinds of names
            target = found.get("$ref") if isinstance(found, Mapping) else None
        fine.update(passed)


def targets_of(schema: Any) -> list[Any]:
    """What its parts refer to."""
    found, todo = [], [schema]
    while todo:
        each = todo.pop()
        if isinstance(each, list):
            todo += each
        elif isinstance(each, Mapping):
            if "$ref" in each:
                found.append(each["$ref"])
            todo += [child for _, child in subschemas(each)]
    return found
