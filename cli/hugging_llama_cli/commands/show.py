"""Show what is known about one model: its files, its parameters, and what it takes in memory.

--memory alone also answers for a model that is not on the server's disk: from the catalog, or from the headers of its
files on the Hub, without a download.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hugging_llama_cli import render
from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.errors import CliError, ServerError, UsageError
from hugging_llama_cli.model_catalog import find_in_catalog, load_catalog
from hugging_llama_cli.models import capabilities, find, local_models, name_of, nearest
from hugging_llama_config.client import load_client_settings

_TEXTS = ("license", "modelfile", "parameters", "system", "template")
_SHOWN_LINES = 2
_SHOWN_ITEMS = 3
_NOT_FOUND = 404
_DETAILS_SHOWN = {"family", "parameter_size", "quantization_level", "context_length", "embedding_length"}
_MEMORY_ROWS = (("weights", "weights"), ("kv_cache", "KV cache"), ("overhead", "overhead"), ("total", "total"))


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("model", metavar="MODEL", help="a name as `list` prints it")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--memory", action="store_true", help="only what the model takes in memory")
    for text in _TEXTS:
        what.add_argument(f"--{text}", action="store_const", const=text, dest="text", help=f"only the {text}")
    parser.add_argument("--num-ctx", type=int, metavar="N", help="the context to estimate memory for, in tokens")
    parser.add_argument("--json", action="store_true", help="print JSON, sizes in bytes")
    parser.add_argument("-v", "--verbose", action="store_true", help="also all metadata and the stored tensors")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for, or fail if the model is not here."""
    if args.num_ctx is not None and args.num_ctx < 1:
        raise UsageError("--num-ctx must be at least 1")
    if args.num_ctx is not None and args.text:
        raise UsageError(f"--num-ctx is for the estimate of memory, which --{args.text} leaves out")
    settings = load_client_settings(args.url)
    server = Server(settings)
    if args.memory:
        memory = _memory(server, args.model, args.num_ctx, settings.home)
        print(json.dumps(memory, indent=2) if args.json else _memory_section(memory))
        return 0
    listed, shown = _find(server, args.model, verbose=args.verbose)
    if args.num_ctx:  # asked for apart: to the server it is an option, which it would show among the parameters
        shown |= {"memory": _memory(server, args.model, args.num_ctx, settings.home)}
    if args.json:
        print(json.dumps(shown, indent=2))
    elif args.text:
        print(str(shown.get(args.text) or "").rstrip("\n"))
    else:
        print("\n\n".join(_sections(listed, shown)))
    return 0


def description(server: Server, name: str) -> str:
    """The sections about the model of that name. Raises CliError if the server has no such model."""
    return "\n\n".join(_sections(*_find(server, name)))


def shown_text(server: Server, name: str, what: str, system: str = "", options: Json | None = None) -> str:
    """One text of a model, as with `system` and `options` laid over it. Raises CliError."""
    body = {"model": name, "system": system, "options": options or {}}
    return str(server.post("/api/show", body).get(what) or "").strip("\n")


def _find(server: Server, name: str, *, num_ctx: int | None = None, verbose: bool = False) -> tuple[Json, Json]:
    """The model as the server lists it and as it shows it; by any spelling that the list or the server knows."""
    models = local_models(server)
    listed = find(models, name)
    options = {"num_ctx": num_ctx} if num_ctx else {}
    body = {"model": name_of(listed) if listed else name, "verbose": verbose, "options": options}
    try:
        shown = server.post("/api/show", body)
    except ServerError as error:
        if error.status != _NOT_FOUND or listed:
            raise
        near = nearest(models, name)
        hint = f"; did you mean '{near}'?" if near else f"; 'hugging-llama pull {name}' downloads it"
        raise ModelMissingError(f"model '{name}' not found{'' if name.startswith('/') else hint}") from None
    return listed or {"name": name}, shown


class ModelMissingError(CliError):
    """The server has no such model."""


def _memory(server: Server, name: str, num_ctx: int | None, home: Path) -> Json:
    try:
        memory = _find(server, name, num_ctx=num_ctx)[1].get("memory")
    except ModelMissingError:
        memory = _memory_elsewhere(server, name, num_ctx, home)
    if not isinstance(memory, dict):
        raise CliError("this server does not estimate memory")
    most = memory.get("num_ctx")
    if num_ctx and isinstance(most, int) and most < num_ctx:
        print(
            f"Warning: '{name}' takes at most {most} tokens, not {num_ctx}: the estimate is for {most}", file=sys.stderr
        )
    return memory


def _memory_elsewhere(server: Server, name: str, num_ctx: int | None, home: Path) -> Any:
    """From the catalog, else from what the server reads on the Hub."""
    if entry := find_in_catalog(load_catalog(home), name):
        print(f"'{name}' is not on the server's disk; estimated from the catalog", file=sys.stderr)
        return entry.memory(num_ctx).to_json()
    options = {"num_ctx": num_ctx} if num_ctx else {}
    memory = server.post("/api/show", {"model": name, "remote": True, "options": options}).get("memory")
    print(f"'{name}' is not on the server's disk; estimated from the headers of its files on the Hub", file=sys.stderr)
    return memory


def _sections(listed: Json, shown: Json) -> list[str]:
    details, info, projector = (_object(shown, key) for key in ("details", "model_info", "projector_info"))
    sections = {
        "Model": _model_facts(details, info, shown),
        "Capabilities": dict.fromkeys(map(str, capabilities(shown)), ""),
        "Projector": {key: _value(value) for key, value in projector.items()},
        "Parameters": dict.fromkeys(_lines(shown, "parameters"), ""),
    }
    if isinstance(tensors := shown.get("tensors"), list):  # asked for by --verbose
        sections["Metadata"] = {key: _value(info[key]) for key in sorted(info)}
        rows = [tensor for tensor in tensors if isinstance(tensor, dict)]
        sections["Tensors"] = {str(row.get("name")): f"{row.get('type')} {row.get('shape')}" for row in rows}
    sections["System"] = dict.fromkeys(_head(_lines(shown, "system")), "")
    sections["License"] = dict.fromkeys(_head(_lines(shown, "license")), "")
    texts = [render.section(title, facts) for title, facts in sections.items() if facts]
    if memory := _object(shown, "memory"):
        texts.append(_memory_section(memory))
    texts.append(render.section("On disk", _disk_facts(listed, shown)))
    other = _flat({key: value for key, value in details.items() if key not in _DETAILS_SHOWN})
    return [*texts, render.section("Details", other)] if other else texts


def _model_facts(details: Json, info: Json, shown: Json) -> dict[str, str]:
    architecture = str(info.get("general.architecture") or details.get("family") or "")
    facts = {
        "architecture": architecture,
        "parameters": details.get("parameter_size"),
        "context length": info.get(f"{architecture}.context_length"),
        "embedding length": info.get(f"{architecture}.embedding_length"),
        "quantization": details.get("quantization_level"),
        "tool calls": shown.get("tool_format"),
        "thinking": " … ".join(" ".join(str(tag).split()) for tag in _list(shown, "thinking_tags")),
        "requires": shown.get("requires"),
    }
    return {label: str(value) for label, value in facts.items() if value}


def _disk_facts(listed: Json, shown: Json) -> dict[str, str]:
    modified = shown.get("modified_at") or listed.get("modified_at")
    facts = {"name": name_of(listed)}
    if listed.get("digest"):
        facts |= {
            "digest": str(listed["digest"]),
            "size": f"{render.size(listed.get('size'))} ({listed.get('size') or 0} bytes)",
        }
    return facts | {"modified": f"{modified or '-'} ({render.age(modified).lower()})"}


def _memory_section(memory: Json) -> str:
    rows = {label: f"{render.size(memory.get(key))}" for key, label in _MEMORY_ROWS}
    return render.section(f"Memory (context of {memory.get('num_ctx')} tokens)", rows)


def _object(values: Json, key: str) -> Json:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def _list(values: Json, key: str) -> list[Any]:
    value = values.get(key)
    return value if isinstance(value, list) else []


def _lines(shown: Json, key: str) -> list[str]:
    return str(shown.get(key) or "").strip().splitlines()


def _value(value: Any) -> str:
    """A value of the metadata in one line: of a list its first items."""
    if isinstance(value, list) and len(value) > _SHOWN_ITEMS:
        return f"[{', '.join(map(str, value[:_SHOWN_ITEMS]))}, ...+{len(value) - _SHOWN_ITEMS} more]"
    return " ".join(str(value).split())


def _head(lines: list[str]) -> list[str]:
    """The first lines, and a mark if there are more."""
    found = [line.strip() for line in lines if line.strip()]
    return found[:_SHOWN_LINES] + ["..."] * (len(found) > _SHOWN_LINES)


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
