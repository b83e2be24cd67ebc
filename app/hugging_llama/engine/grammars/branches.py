"""What is understood of keywords that combine schemas or count, where calls are not written in JSON."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hugging_llama.engine.grammars.keywords import asked, count_of, mapped, options_of, required_of, resolved, types_of
from hugging_llama.engine.grammars.lark import Lark
from hugging_llama.errors import GrammarError
from hugging_llama.parsing.json_kinds import common, comparable, is_of, kinds_of

_MOST_REFERENCES = 100
_KEYS_A_STEP = 64


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


class Branches:
    """The branches of one schema's anyOf and oneOf, opened in no more steps than its grammar may take."""

    def __init__(self, lark: Lark, root: Mapping[str, Any]) -> None:
        self._lark = lark
        self._root = root
        self._apart: dict[tuple[int, int], bool] = {}
        self._facts: dict[int, _Facts] = {}

    def within(self, branch: Any, kinds: Sequence[str]) -> Any:
        """The branch, of these types only ([]: of any); None if it allows none of them."""
        if not kinds:
            return branch
        if branch is True:
            return {"type": list(kinds)}
        branch = self._referred(branch)
        if not isinstance(branch, Mapping):
            raise GrammarError("a branch of its parameters is no JSON Schema")
        given = branch.get("enum")
        self._lark.spend((len(branch) + (len(given) if isinstance(given, list) else 0)) // _KEYS_A_STEP)
        narrowed = common(own, kinds) if (own := types_of(branch)) else list(kinds)
        found = {**branch, "type": narrowed}
        if not narrowed or ({"enum", "const"} & branch.keys() and not _any_left(branch, narrowed)):
            return None
        return found

    def check_apart(self, branches: Sequence[Any]) -> None:
        """Raises GrammarError where a value could be valid by two branches of oneOf."""
        seen = [self._referred(branch) for branch in branches if branch is not None]
        for at, one in enumerate(seen):
            if not all(self._are_apart(one, other) for other in seen[:at]):
                raise GrammarError("oneOf is enforced only where its branches can't hold at once: use anyOf")

    def _referred(self, schema: Any) -> Any:
        for _ in range(_MOST_REFERENCES):
            self._lark.spend(1)
            if not isinstance(schema, Mapping) or asked(schema) != {"$ref"}:
                return schema
            schema = resolved(self._root, schema["$ref"])
        raise GrammarError("its parameters refer to themselves")

    def _are_apart(self, one: Any, other: Any) -> bool:
        """Each pair is looked at once; one that leads to itself shows nothing."""
        if not isinstance(one, Mapping) or not isinstance(other, Mapping):
            return False
        pair = (id(one), id(other))  # of schemas that are kept in the facts about them
        if pair not in self._apart:
            self._apart[pair] = False
            self._apart[pair] = self._differ(self._facts_of(one), self._facts_of(other))
        return self._apart[pair]

    def _differ(self, one: "_Facts", other: "_Facts") -> bool:
        self._lark.spend(1 + min(one.size, other.size) // _KEYS_A_STEP)
        if one.kinds and other.kinds and not common(one.kinds, other.kinds):
            return True
        if one.given is not None and other.given is not None:
            return one.given.isdisjoint(other.given)
        if not (one.kinds == other.kinds == ["object"]):
            return False
        return any(
            self._are_apart(self._referred(one.required[name]), self._referred(other.required[name]))
            for name in one.required.keys() & other.required.keys()
        )

    def _facts_of(self, schema: Mapping[str, Any]) -> "_Facts":
        if id(schema) not in self._facts:
            given, properties = options_of(schema), mapped(schema, "properties")
            self._facts[id(schema)] = _Facts(
                schema=schema,
                kinds=kinds_of(schema),
                given=None if given is None else frozenset(map(comparable, given)),
                required={name: properties[name] for name in required_of(schema) if name in properties},
            )
        return self._facts[id(schema)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What tells a schema's values from another one's."""

    schema: Mapping[str, Any]
    kinds: Sequence[str]
    given: frozenset[Any] | None
    required: Mapping[str, Any]

    @property
    def size(self) -> int:
        return len(self.given or ()) + len(self.required)


def _any_left(branch: Mapping[str, Any], kinds: Sequence[str]) -> bool:
    return any(is_of(value, kinds) for value in options_of(branch) or ())
