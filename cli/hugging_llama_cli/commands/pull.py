"""Download a model from the Hugging Face Hub into the server's cache.

The server does the download; when it is interrupted, what has arrived is kept and the next pull goes on from there.
"""

import argparse
import sys

from hugging_llama_cli.api import Server
from hugging_llama_cli.download import download
from hugging_llama_cli.progress import JsonLines, pull_progress
from hugging_llama_cli.refused_flags import refuse_insecure
from hugging_llama_config.client import load_client_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("model", metavar="MODEL", help="a repository of the Hub, such as Qwen/Qwen3-0.6B")
    parser.add_argument("--revision", metavar="REVISION", help="a branch, tag or commit instead of the default")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let the model's own code run, if the server allows it"
    )
    parser.add_argument("--json", action="store_true", help="print the progress as JSON, an object a line")
    refuse_insecure(parser)


def run(args: argparse.Namespace) -> int:
    """Pull, with progress on stderr."""
    server = Server(load_client_settings(args.url))
    download(
        server,
        args.model,
        JsonLines(sys.stdout) if args.json else pull_progress(sys.stderr),
        revision=args.revision,
        trust_remote_code=args.trust_remote_code,
    )
    return 0
