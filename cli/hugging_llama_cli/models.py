"""Models as the server lists them, and the many ways to write one name."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.errors import ServerError

_HUBS = ("hf.co/", "huggingface.co/")
_DEFAULT_TAG = ":latest"
_NOT_FOUND = 404


def local_models(server: Server) -> list[Json]:
    """What `/api/tags` lists."""
    return entries(server.get("/api/tags"))


def entries(answer: Json) -> list[Json]:
    """The objects of an answer's `models` list."""
    models = answer.get("models")
    return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []


def name_of(model: Json) -> str:
    """A listed model's name."""
    return str(model.get("name") or model.get("model") or "")


def named(models: Iterable[Json], prefix: str) -> list[Json]:
    """Those whose names begin so, in any case."""
    return [model for model in models if name_of(model).lower().startswith(prefix.lower())]


def find(models: Iterable[Json], name: str) -> Json | None:
    """The model of that name, however it is spelt; else the only one whose last part is `name`."""
    wanted = _canonical(name)
    listed = list(models)
    for model in listed:
        if _canonical(name_of(model)) == wanted:
            return model
    if "/" in wanted:
        return None
    alike = [model for model in listed if _canonical(name_of(model)).rpartition("/")[2] == wanted]
    return alike[0] if len(alike) == 1 else None


def nearest(models: Iterable[Json], name: str) -> str:
    """The listed name that looks most like `name`, or ""; a name in one part is held against the last parts, too."""
    import difflib  # only needed by who mistypes

    wanted = _canonical(name)
    names: dict[str, str] = {}
    for model in models:
        listed = _canonical(name_of(model))
        for spelling in (listed,) if "/" in wanted else (listed, listed.rpartition("/")[2]):
            names.setdefault(spelling, name_of(model))
    near = difflib.get_close_matches(wanted, names, n=1)
    return names[near[0]].removesuffix(_DEFAULT_TAG) if near else ""


@contextlib.contextmanager
def did_you_mean(server: Server, name: str) -> Iterator[None]:
    """To the server's word that there is no such model, add the name of one that looks alike."""
    try:
        yield
    except ServerError as error:
        if error.status != _NOT_FOUND:
            raise
        near = ""
        with contextlib.suppress(ServerError):
            near = nearest(local_models(server), name)
        if not near:
            raise
        raise ServerError(f"{error}; did you mean '{near}'?", error.status) from None


def capabilities(model: Json) -> list[Any]:
    """What a model can do: `completion`, `embedding`, `thinking`, …"""
    value = model.get("capabilities")
    return value if isinstance(value, list) else []


def _canonical(name: str) -> str:
    name = name.strip().lower().removeprefix("https://")
    for hub in _HUBS:
        name = name.removeprefix(hub)
    return name.removesuffix(_DEFAULT_TAG)
