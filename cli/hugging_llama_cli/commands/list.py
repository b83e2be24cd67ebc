"""List the models on disk, newest first."""

import argparse
import sys

from hugging_llama_cli import render
from hugging_llama_cli.api import Server
from hugging_llama_cli.models import local_models, name_of
from hugging_llama_cli.terminal import columns
from hugging_llama_config.client import load_client_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only names that begin so")


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    print(listing(Server(load_client_settings(args.url)), args.prefix))
    return 0


def listing(server: Server, prefix: str = "") -> str:
    """The table of the models on disk."""
    rows = [
        (name_of(m), render.short_id(m.get("digest")), render.size(m.get("size")), render.age(m.get("modified_at")))
        for m in local_models(server)
        if name_of(m).lower().startswith(prefix.lower())
    ]
    return render.table(("NAME", "ID", "SIZE", "MODIFIED"), rows, columns(sys.stdout), least=("ID", "MODIFIED"))
