"""Copy a model: the same under another name, without a second copy of its weights."""

import argparse
import json

from hugging_llama_cli.api import Server
from hugging_llama_cli.models import did_you_mean
from hugging_llama_config.client import load_client_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("source", metavar="SOURCE", help="a name as `list` prints it")
    parser.add_argument("destination", metavar="DESTINATION", help="the new name; a model that has it is replaced")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Have the server copy it."""
    server = Server(load_client_settings(args.url))
    with did_you_mean(server, args.source):
        server.send("/api/copy", {"source": args.source, "destination": args.destination})
    if args.json:
        print(json.dumps({"source": args.source, "destination": args.destination}))
    else:
        print(f"copied '{args.source}' to '{args.destination}'")
    return 0
