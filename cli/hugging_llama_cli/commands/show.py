"""Show all that is known about one model on disk."""

import argparse
from collections.abc import Mapping
from typing import Any

from hugging_llama_cli import render
from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.errors import CliError
from hugging_llama_cli.models import capabilities, find, local_models, name_of, nearest
from hugging_llama_config.client import load_client_settings

_MODEL_FACTS = (
    ("family", "architecture"),
    ("parameter_size", "parameters"),
    ("context_length", "context length"),
    ("embedding_length", "embedding length"),
    ("quantization_level", "quantization"),
)
_SHOWN = {"name", "model", "size", "modified_at", "digest", "details", "capabilities"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("model", metavar="MODEL", help="a name as `list` prints it")


def run(args: argparse.Namespace) -> int:
    """Print the model's sections, or fail if it is not here."""
    print(description(Server(load_client_settings(args.url)), args.model))
    return 0


def description(server: Server, name: str) -> str:
    """The sections about the model of that name. Raises CliError if the server has no such model."""
    models = local_models(server)
    model = find(models, name)
    if model is None:
        near = nearest(models, name)
        hint = f"did you mean '{near}'?" if near else f"'hugging-llama pull {name}' downloads it"
        raise CliError(f"model '{name}' not found; {hint}")
    return "\n\n".join(_sections(model))


def _sections(model: Json) -> list[str]:
    details = model.get("details") if isinstance(model.get("details"), dict) else {}
    assert isinstance(details, dict)
    facts = {label: str(details[key]) for key, label in _MODEL_FACTS if details.get(key)}
    sections = [render.section("Model", facts)] if facts else []
    if abilities := capabilities(model):
        sections.append(render.section("Capabilities", {str(ability): "" for ability in abilities}))
    on_disk = {
        "name": name_of(model),
        "digest": str(model.get("digest") or "-"),
        "size": f"{render.size(model.get('size'))} ({model.get('size') or 0} bytes)",
        "modified": f"{model.get('modified_at') or '-'} ({render.age(model.get('modified_at')).lower()})",
    }
    sections.append(render.section("On disk", on_disk))
    named = {key for key, _ in _MODEL_FACTS}
    other = _flat({k: v for k, v in model.items() if k not in _SHOWN})
    other |= _flat({k: v for k, v in details.items() if k not in named})
    return [*sections, render.section("Details", other)] if other else sections


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values by dotted name, words for underscores; empty ones left out."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = prefix + key.replace("_", " ")
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}.")
        elif isinstance(value, list):
            flat[name] = ", ".join(map(str, value))
        elif value is not None:
            flat[name] = str(value)
    return {name: text for name, text in flat.items() if text}
