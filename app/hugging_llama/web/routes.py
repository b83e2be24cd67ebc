"""All routes of ours, and which of them an application that mounts us wants."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint

from hugging_llama.dialects.anthropic import blueprints as anthropic_blueprints
from hugging_llama.dialects.documented import operation_of
from hugging_llama.dialects.ollama import blueprints as ollama_blueprints
from hugging_llama.dialects.openai import blueprints as openai_blueprints
from hugging_llama.dialects.openai import models as openai_models
from hugging_llama.web import docs, health, metrics

DIALECTS = ("ollama", "openai", "anthropic")
GROUPS = ("manage", "metrics", "docs", "health")
"""What may be left out by name beside paths: `manage` is what changes the models on disk, by the role of its routes."""

_OF_DIALECT: Mapping[str, tuple[Blueprint, ...]] = {
    "ollama": ollama_blueprints.BLUEPRINTS,
    "openai": openai_blueprints.BLUEPRINTS,
    "anthropic": anthropic_blueprints.BLUEPRINTS,
}
_OF_SERVER: Mapping[str, Blueprint] = {
    "health": health.blueprint,
    "metrics": metrics.blueprint,
    "docs": docs.blueprint,
}


@dataclass(frozen=True, slots=True)
class Route:
    """One rule and its view; `options` are those of `add_url_rule`."""

    rule: str
    view: Callable[..., Any]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RouteGroup:
    """The routes of one of our modules, under the name of its blueprint. `dialect` is "" for the server itself."""

    name: str
    dialect: str
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """`dialects` are of DIALECTS, `without` holds names of GROUPS and paths, which stand for all below them, too.

    Raises ValueError for a name or path that is none.
    """

    dialects: tuple[str, ...] = DIALECTS
    without: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in self.dialects:
            if name not in DIALECTS:
                raise ValueError(f"dialects: there is no {name!r}; there are {', '.join(DIALECTS)}")
        if not self.dialects:
            raise ValueError(f"dialects: name at least one of {', '.join(DIALECTS)}")
        rules = [route.rule for group in all_groups(self.dialects) for route in group.routes]
        for name in self.without:
            if not name.startswith("/") and name not in GROUPS:
                raise ValueError(f"without: there is no {name!r}; name a path or one of {', '.join(GROUPS)}")
            if name.startswith("/") and not any(_is_below(rule, name) for rule in rules):
                raise ValueError(f"without: no route of {', '.join(self.dialects)} is at {name!r} or below it")

    def groups(self) -> list[RouteGroup]:
        """What is wanted; a group of which nothing is wanted is none."""
        found = []
        for group in all_groups(self.dialects):
            if not group.dialect and group.name in self.without:
                continue
            if routes := tuple(route for route in group.routes if self._is_wanted(route)):
                found.append(RouteGroup(group.name, group.dialect, routes))
        return found

    def _is_wanted(self, route: Route) -> bool:
        operation = operation_of(route.view)
        if operation is not None and operation.role == "manage" and "manage" in self.without:
            return False
        return not any(name.startswith("/") and _is_below(route.rule, name) for name in self.without)


def select(dialects: Collection[str], without: Collection[str]) -> Selection:
    """Raises ValueError for names that are none, and for a text in place of several."""
    for name, found in (("dialects", dialects), ("without", without)):
        if isinstance(found, str):
            raise ValueError(f"{name} must be several names, such as ({found!r},)")
    return Selection(tuple(dict.fromkeys(dialects)), frozenset(without))


def all_groups(dialects: Collection[str]) -> Iterator[RouteGroup]:
    """Of these dialects, and of the server itself. Anthropic's clients list models at OpenAI's path."""
    for dialect in dialects:
        for blueprint in _OF_DIALECT[dialect]:
            yield _group(blueprint, dialect)
        if dialect == "anthropic" and "openai" not in dialects:
            yield _group(openai_models.blueprint, dialect)
    for blueprint in _OF_SERVER.values():
        yield _group(blueprint, "")


def _group(blueprint: Blueprint, dialect: str) -> RouteGroup:
    recorder = _Recorder([])
    for deferred in blueprint.deferred_functions:
        deferred(recorder)  # type: ignore[arg-type]
    return RouteGroup(blueprint.name, dialect, tuple(recorder.routes))


@dataclass(frozen=True, slots=True)
class _Recorder:
    """Stands where Flask has the state of a registration: our blueprints hold rules and nothing else."""

    routes: list[Route]

    def add_url_rule(self, rule: str, endpoint: str | None, view_func: Callable[..., Any], **options: Any) -> None:
        self.routes.append(Route(rule, view_func, {"endpoint": endpoint, **options}))


def _is_below(rule: str, path: str) -> bool:
    return rule == path or (path != "/" and rule.startswith(path.rstrip("/") + "/"))
