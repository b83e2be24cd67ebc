"""Print the token ids of a text as the model gets it, or only how many they are.

Without TEXT, or with -, the text is what is piped in, to its last byte.
"""

import argparse
import json
import sys

from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.errors import UsageError
from hugging_llama_cli.models import did_you_mean
from hugging_llama_cli.piped import piped_whole
from hugging_llama_config.client import load_client_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("model", metavar="MODEL", help="such as Qwen/Qwen3-0.6B")
    parser.add_argument("text", nargs="?", metavar="TEXT", help="- for what is piped in")
    parser.add_argument("--count", action="store_true", help="only the number of tokens")
    parser.add_argument(
        "--no-special-tokens", action="store_true", help="without those that the tokenizer puts around a text"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, ids and their number")


def run(args: argparse.Namespace) -> int:
    """Print one line."""
    text = piped_whole(sys.stdin) if args.text in (None, "-") else args.text
    if text is None:
        raise UsageError("no text to tokenize (see 'hugging-llama tokenize --help')")
    body: Json = {"model": args.model, "content": text, "add_special_tokens": not args.no_special_tokens}
    server = Server(load_client_settings(args.url))
    with did_you_mean(server, args.model):
        answer = server.post("/api/tokenize", body)
    if args.json:
        print(json.dumps({"tokens": answer["tokens"], "count": answer["count"]}))
        return 0
    print(answer["count"] if args.count else " ".join(map(str, answer["tokens"])))
    return 0
