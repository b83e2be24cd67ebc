"""Print the versions of this client and of the server it would talk to."""

import argparse
import contextlib
import json
import sys
from importlib import metadata

from hugging_llama_cli.api import Server
from hugging_llama_cli.errors import ServerError
from hugging_llama_config.client import load_client_settings

_PROBE_TIMEOUT_S = 5.0


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--json", action="store_true", help="print JSON; server is null where none answers")


def run(args: argparse.Namespace) -> int:
    """Print both; a server that does not answer is a warning, not an error."""
    server = Server(load_client_settings(args.url))
    version = None
    if args.json:
        with contextlib.suppress(ServerError):
            version = server.get("/api/version", _PROBE_TIMEOUT_S).get("version")
        print(json.dumps({"client": client_version(), "server": version, "url": server.url}))
        return 0
    print(f"hugging-llama version is {client_version()}")
    try:
        version = server.get("/api/version", _PROBE_TIMEOUT_S).get("version")
    except ServerError:
        print(f"Warning: could not connect to a running Hugging Llama server at {server.url}", file=sys.stderr)
    else:
        print(f"server at {server.url} speaks Ollama API version {version}")
    return 0


def client_version() -> str:
    """The version that pip installed."""
    try:
        return metadata.version("hugging-llama")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"
