"""Turn texts into vectors and print the server's JSON answer.

Without TEXT, what is piped in is one text.
"""

import argparse
import json
import sys

from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.errors import UsageError
from hugging_llama_cli.models import did_you_mean
from hugging_llama_cli.piped import piped_text
from hugging_llama_config.client import load_client_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("model", metavar="MODEL", help="such as sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("texts", nargs="*", default=[], metavar="TEXT", help="one vector for each")
    parser.add_argument("--dimensions", type=int, metavar="N", help="shorten the vectors to N elements")
    parser.add_argument("--json", action="store_true", help="what it prints is JSON with and without this")


def run(args: argparse.Namespace) -> int:
    """Print the answer as it came."""
    texts = args.texts or [text for text in [piped_text(sys.stdin)] if text]
    if not texts:
        raise UsageError("no text to embed (see 'hugging-llama embed --help')")
    body: Json = {"model": args.model, "input": texts[0] if len(texts) == 1 else texts}
    if args.dimensions is not None:
        body["dimensions"] = args.dimensions
    server = Server(load_client_settings(args.url))
    with did_you_mean(server, args.model):
        print(json.dumps(server.post("/api/embed", body)))
    return 0
