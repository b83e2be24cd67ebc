"""Delete models, after taking them out of memory. What another model needs stays.

One that can't be deleted is named on stderr, and the others are deleted all the same.
"""

import argparse
import json
import sys
from collections.abc import Mapping

from hugging_llama_cli.api import Server
from hugging_llama_cli.commands.stop import unload
from hugging_llama_cli.errors import ServerError, UnreachableError
from hugging_llama_cli.models import did_you_mean
from hugging_llama_cli.plain import one_line
from hugging_llama_config.client import load_client_settings
from hugging_llama_config.units import format_bytes

_FREED = "X-Freed-Bytes"
_NOT_FOUND = 404


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a name as `list` prints it")
    parser.add_argument("--json", action="store_true", help="print JSON, an object a model")


def run(args: argparse.Namespace) -> int:
    """Delete one after another; only a server that is gone ends it early."""
    server = Server(load_client_settings(args.url))
    code = 0
    for model in args.models:
        try:
            freed = _delete(server, model)
        except UnreachableError:
            raise
        except ServerError as error:
            print(f"Error: {one_line(error)}", file=sys.stderr)
            code = error.exit_code
            continue
        if args.json:
            print(json.dumps({"deleted": model, "freed_bytes": freed}))
        else:
            print(f"deleted '{model}'" + (f" ({format_bytes(freed)} freed)" if freed else ""))
    return code


def _delete(server: Server, model: str) -> int | None:
    """How many bytes that has freed, if the server says it. Raises ServerError."""
    with did_you_mean(server, model):
        try:
            unload(server, model)
        except UnreachableError:
            raise
        except ServerError as error:
            if error.status != _NOT_FOUND:  # what can't be loaded any more can still be deleted
                print(f"Warning: unable to stop model '{model}'", file=sys.stderr)
        return _freed(server.delete("/api/delete", {"model": model}))


def _freed(headers: Mapping[str, str]) -> int | None:
    """How many bytes, if the server says it."""
    count = headers.get(_FREED, "")
    return int(count) if count.isdecimal() and count.isascii() else None
