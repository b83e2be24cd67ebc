"""List, export and delete the chats that 'run MODEL --session NAME' has kept on this machine.

export prints Markdown to read, or with --json all that is kept.
"""

import argparse
import json
import os
import sys

from hugging_llama_cli import render
from hugging_llama_cli.errors import CliError, UsageError
from hugging_llama_cli.sessions import SessionStore, as_markdown, missing, to_json
from hugging_llama_cli.terminal import columns
from hugging_llama_config.client import load_client_settings

_ACTIONS = ("list", "export", "rm")


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("action", nargs="?", choices=_ACTIONS, default="list", help="default: list")
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help="one to export, or those to delete")
    parser.add_argument("-o", "--output", metavar="FILE", help="export into a file, which nobody else may read")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do it."""
    store = SessionStore(load_client_settings(args.url).home)
    if args.output and args.action != "export":
        raise UsageError("--output is for export")
    if args.action == "list":
        return _list(store, args)
    return _export(store, args) if args.action == "export" else _delete(store, args)


def _list(store: SessionStore, args: argparse.Namespace) -> int:
    if args.names:
        raise UsageError("list takes no names")
    found = []
    for name in store.names():
        try:
            session = store.read(name)
        except CliError as error:  # one that is damaged hides no other
            print(f"Warning: {error}", file=sys.stderr)
        else:
            found += [session] if session else []
    if args.json:
        kept = [to_json(s) | {"messages": len(s.messages)} for s in found]
        print(json.dumps(kept, indent=2))
        return 0
    rows = [(s.name, s.model, str(len(s.messages)), render.age(s.updated_at)) for s in found]
    headers = ("NAME", "MODEL", "MESSAGES", "UPDATED")
    print(render.table(headers, rows, columns(sys.stdout), least=("MESSAGES", "UPDATED")))
    return 0


def _export(store: SessionStore, args: argparse.Namespace) -> int:
    if len(args.names) != 1:
        raise UsageError("which session? Name one (see 'hugging-llama sessions list')")
    session = store.read(args.names[0])
    if session is None:
        raise missing(args.names[0])
    text = json.dumps(to_json(session), ensure_ascii=False, indent=2) + "\n" if args.json else as_markdown(session)
    if not args.output:
        sys.stdout.write(text)
        return 0
    try:
        descriptor = os.open(args.output, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CliError(f"'{args.output}' is there already, and was left as it is") from None
    except OSError as error:
        raise CliError(f"'{args.output}' can't be written: {error.strerror}") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return 0


def _delete(store: SessionStore, args: argparse.Namespace) -> int:
    if not args.names:
        raise UsageError("which sessions? (see 'hugging-llama sessions list')")
    for name in args.names:
        store.delete(name)
        print(json.dumps({"deleted": name}) if args.json else f"deleted '{name}'")
    return 0
