"""What is understood of keywords that combine schemas or count, where calls are not written in JSON."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hugging_llama.engine.grammars.keywords import asked, count_of, mapped, options_of, required_of, resolved, types_of
from hugging_llama.errors import GrammarError
from hugging_llama.parsing.json_kinds import common, is_of, kinds_of, same

_MOST_REFERENCES = 100


def refuse_unknown(schema: Mapping[str, Any], understood: Collection[str], *, beside: str = "") -> None:
    """Raises GrammarError for keywords that are none of these; `beside`: what they stand beside."""
    if unknown := sorted(asked(schema) - set(understood)):
        near = f" beside {beside}" if beside else ""
        raise GrammarError(f"this model's way to write calls can't be held to {', '.join(unknown)[:200]}{near}")


def check_counts(schema: Mapping[str, Any], properties: Collection[str]) -> None:
    """Raises GrammarError for numbers of properties that don't come by themselves, and where all names are open."""
    if not properties and isinstance(schema.get("additionalProperties"), Mapping):
        raise GrammarError("this model's way to write calls can't be held to additionalProperties without properties")
    least, most = count_of(schema, "minProperties"), count_of(schema, "maxProperties")
    if least is not None and least > len(required_of(schema)):
        raise GrammarError("this model's way to write calls can't be held to minProperties")
    if most is not None and most < len(properties):
        raise GrammarError("this model's way to write calls can't be held to maxProperties")


def within(branch: Any, kinds: Sequence[str], root: Mapping[str, Any]) -> Any:
    """The branch, of these types only ([]: of any); None if it allows none of them."""
    if not kinds:
        return branch
    if branch is True:
        return {"type": list(kinds)}
    branch = _referred(branch, root)
    if not isinstance(branch, Mapping):
        raise GrammarError("a branch of its parameters is no JSON Schema")
    narrowed = common(own, kinds) if (own := types_of(branch)) else list(kinds)
    found = {**branch, "type": narrowed}
    if not narrowed or ({"enum", "const"} & branch.keys() and not _any_left(branch, narrowed)):
        return None
    return found


def check_apart(branches: Sequence[Any], root: Mapping[str, Any]) -> None:
    """Raises GrammarError where a value could be valid by two branches of oneOf."""
    seen = [_referred(branch, root) for branch in branches if branch is not None]
    for at, one in enumerate(seen):
        if not all(_are_apart(one, other, root) for other in seen[:at]):
            raise GrammarError("oneOf is enforced only where its branches can't hold at once: use anyOf")


def _any_left(branch: Mapping[str, Any], kinds: Sequence[str]) -> bool:
    return any(is_of(value, kinds) for value in options_of(branch) or ())


def _referred(schema: Any, root: Mapping[str, Any]) -> Any:
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, Mapping) or asked(schema) != {"$ref"}:
            return schema
        schema = resolved(root, schema["$ref"])
    raise GrammarError("its parameters refer to themselves")


def _are_apart(one: Any, other: Any, root: Mapping[str, Any]) -> bool:
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return False
    some, others = kinds_of(one), kinds_of(other)
    if some and others and not common(some, others):
        return True
    given, found = options_of(one), options_of(other)
    if given is not None and found is not None:
        return not any(same(value, option) for value in given for option in found)
    if not (some == others == ["object"]):
        return False
    return any(
        _are_apart(
            _referred(mapped(one, "properties")[name], root), _referred(mapped(other, "properties")[name], root), root
        )
        for name in set(required_of(one)) & set(required_of(other))
        if name in mapped(one, "properties") and name in mapped(other, "properties")
    )
