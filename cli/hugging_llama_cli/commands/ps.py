"""List the models in memory: a table on a terminal, else one line a model."""

import argparse
import json
import sys

from hugging_llama_cli import render
from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.models import entries, name_of, named
from hugging_llama_cli.terminal import columns
from hugging_llama_config.client import load_client_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only names that begin so")
    parser.add_argument("--json", action="store_true", help="print JSON, as the server tells it")


def run(args: argparse.Namespace) -> int:
    """Print what is loaded."""
    answer = Server(load_client_settings(args.url)).get("/api/ps")
    models = named(entries(answer), args.prefix)
    if args.json:
        print(json.dumps(models, indent=2))
    elif sys.stdout.isatty():
        headers = ("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL")
        print(render.table(headers, map(_row, models), columns(sys.stdout), least=("ID", "CONTEXT", "PROCESSOR")))
    else:
        for model in models:
            print(f"{name_of(model)}: refs={_references(model)} expires={render.expiry(model.get('expires_at'))}")
    return 0


def _row(model: Json) -> tuple[str, ...]:
    size = model.get("size")
    return (
        name_of(model),
        render.short_id(model.get("digest")),
        render.size(size),
        render.processor(size, model.get("size_vram")),
        str(model.get("context_length") or "-"),
        render.until(model.get("expires_at")),
    )


def _references(model: Json) -> int:
    count = model.get("ref_count")
    return count if isinstance(count, int) else 0
