"""Delete models that `create` made. What they were made from stays."""

import argparse

from hugging_llama_cli.api import Server
from hugging_llama_config.client import load_client_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a name that was given by `create`")


def run(args: argparse.Namespace) -> int:
    """Delete one after another; the first failure ends it."""
    server = Server(load_client_settings(args.url))
    for model in args.models:
        server.delete("/api/delete", {"model": model})
        print(f"deleted '{model}'")
    return 0
