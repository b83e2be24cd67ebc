"""Stop the server that 'serve --detach' has started on this machine.

It is the one at the address that other commands would talk to. Running answers come to their end first.
"""

import argparse
import json
import sys

from hugging_llama_cli.background import find, others, stop
from hugging_llama_cli.errors import CliError
from hugging_llama_config.client import load_client_settings, server_environment
from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.host import parse_host


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Stop it, or say which ones there are."""
    url = load_client_settings(args.url).url
    try:
        settings = load_settings({"port": parse_host(url).port}, server_environment({}))
    except ConfigError as error:
        raise CliError(str(error)) from None
    server = find(settings)
    if server is None:
        running = ", ".join(other.url for other in others(settings))
        hint = f"; there is {running}: name it with --url" if running else ""
        raise CliError(f"no server at {url} was started in the background{hint}")
    stop(server, settings, sys.stderr)
    print(
        json.dumps({"stopped": server.url, "pid": server.pid}) if args.json else f"stopped the server at {server.url}"
    )
    return 0
