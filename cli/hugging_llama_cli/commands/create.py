"""Name a model of your own: one that is on the server's disk, with quantised weights, other parameters, a system text.

The weights are not copied: they are quantised whenever the model is loaded. A name that `create` has given before gets
the new meaning.
"""

import argparse
import contextlib
from collections.abc import Iterable

from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.conversation import parse_parameter
from hugging_llama_cli.errors import ServerError, UsageError
from hugging_llama_config.client import load_client_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("name", metavar="NAME", help="the new name, such as my-model or my-model:int4")
    parser.add_argument("--from", dest="base", required=True, metavar="MODEL", help="a model as `list` prints it")
    parser.add_argument(
        "-q",
        "--quantize",
        metavar="TYPE",
        help="int8 or int4 weights (q8_0, q4_K_M, … work, too), none for exact ones",
    )
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE",
        help="a parameter such as temperature=0.2; may be repeated, stop also with several values",
    )  # fmt: skip
    parser.add_argument("--system", metavar="TEXT", help="the system text of chats that have none")


def run(args: argparse.Namespace) -> int:
    """Have the server make the model."""
    body: Json = {"model": args.name, "from": args.base, "parameters": parameters(args.parameter)}
    body |= {key: value for key in ("quantize", "system") if (value := getattr(args, key))}
    status = ""
    with contextlib.closing(Server(load_client_settings(args.url)).stream("/api/create", body)) as events:
        for event in events:
            status = str(event.get("status") or "")
    if status != "success":
        raise ServerError("the server ended the creation before it was complete")
    print(f"created '{args.name}'")
    return 0


def parameters(texts: Iterable[str]) -> Json:
    """`NAME=VALUE` texts as an object; a name that comes more than once has a list. Raises UsageError."""
    values: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--parameter takes NAME=VALUE, not '{text}'")
        values.setdefault(name, []).append(value)
    return {
        name: parse_parameter(name, found)
        if name == "stop" or len(found) == 1
        else [parse_parameter(name, [value]) for value in found]
        for name, found in values.items()
    }
