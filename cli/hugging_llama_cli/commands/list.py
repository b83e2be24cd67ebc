"""List the models on disk, newest first."""

import argparse
import json
import sys

from hugging_llama_cli import render
from hugging_llama_cli.api import Server
from hugging_llama_cli.models import local_models, name_of, named
from hugging_llama_cli.terminal import columns
from hugging_llama_config.client import load_client_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only names that begin so")
    parser.add_argument("--json", action="store_true", help="print JSON, as the server tells it")


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    server = Server(load_client_settings(args.url))
    if args.json:
        print(json.dumps(named(local_models(server), args.prefix), indent=2))
    else:
        print(listing(server, args.prefix))
    return 0


def listing(server: Server, prefix: str = "") -> str:
    """The table of the models on disk."""
    rows = [
        (name_of(m), render.short_id(m.get("digest")), render.size(m.get("size")), render.age(m.get("modified_at")))
        for m in named(local_models(server), prefix)
    ]
    return render.table(("NAME", "ID", "SIZE", "MODIFIED"), rows, columns(sys.stdout), least=("ID", "MODIFIED"))
