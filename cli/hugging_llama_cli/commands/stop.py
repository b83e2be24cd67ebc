"""Take a model out of memory. Requests that it is answering come to their end first."""

import argparse
import json

from hugging_llama_cli.api import Server
from hugging_llama_cli.errors import ServerError
from hugging_llama_cli.models import did_you_mean
from hugging_llama_config.client import load_client_settings

_NOT_FOUND = 404


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("model", metavar="MODEL", help="a name as `ps` prints it")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Unload it; one that is not loaded is unloaded already."""
    server = Server(load_client_settings(args.url))
    with did_you_mean(server, args.model):
        try:
            unload(server, args.model)
        except ServerError as error:
            if error.status != _NOT_FOUND:
                raise
            raise ServerError(f'couldn\'t find model "{args.model}" to stop', error.status) from None
    if args.json:
        print(json.dumps({"stopped": args.model}))
    return 0


def unload(server: Server, model: str) -> None:
    """Raises ServerError."""
    server.post("/api/generate", {"model": model, "keep_alive": 0, "stream": False})
