"""Upload a model of your own to the Hugging Face Hub, to the repository and branch that its name says.

The server does the upload. It is given your token for the Hub: HF_TOKEN, else what `hf auth login` has stored on this
machine; without either it uses its own. A repository that is not there is made. All of a model appears at once, at the
end; a push that was interrupted can be repeated, and sends no file again that is there.
"""

import argparse
import contextlib
import sys
from urllib.parse import urlsplit

from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.errors import ServerError, UsageError
from hugging_llama_cli.progress import JsonLines, pull_progress
from hugging_llama_cli.refused_flags import refuse_insecure
from hugging_llama_config.client import load_client_settings
from hugging_llama_config.exposure import is_loopback


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "model", metavar="MODEL", help="a model that `create` or `cp` has named, such as me/mine or me/mine:branch"
    )
    visibility = parser.add_mutually_exclusive_group()
    visibility.add_argument(
        "--private", action="store_true", default=None, help="a repository that is made is visible to you alone"
    )
    visibility.add_argument("--public", dest="private", action="store_false", help="… to everybody")
    parser.add_argument("--json", action="store_true", help="print the progress as JSON, an object a line")
    refuse_insecure(parser)


def run(args: argparse.Namespace) -> int:
    """Push, with progress on stderr."""
    settings = load_client_settings(args.url)
    server = Server(settings)
    body: Json = {"model": args.model} | ({} if args.private is None else {"private": args.private})
    headers = {}
    if token := settings.hub_token:
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise UsageError("your token for the Hub has characters that no token has; look at HF_TOKEN")
        headers["X-HF-Token"] = token
        if _is_open_to_others(settings.url):
            print(f"Warning: your token for the Hub goes to {settings.url} without encryption", file=sys.stderr)
    progress = JsonLines(sys.stdout) if args.json else pull_progress(sys.stderr, verb="upload")
    status = ""
    events = server.stream("/api/push", body, headers)
    with contextlib.closing(progress), contextlib.closing(events):
        for event in events:
            progress.show(event)
            status = str(event.get("status") or "")
    if status != "success":
        raise ServerError("the server ended the push before it was complete; run it again")
    return 0


def _is_open_to_others(url: str) -> bool:
    """Whether what is sent leaves this machine without encryption."""
    parts = urlsplit(url)
    return parts.scheme != "https" and not is_loopback(parts.hostname or "")
