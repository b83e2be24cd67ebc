"""Print, or with --write set, the configuration that points another program at this server.

--write changes the program's own file, and there only what must be; it keeps the file as it was beside the new one, and
refuses where something would be lost. A key that the server needs comes from HUGGING_LLAMA_API_KEY or OLLAMA_API_KEY.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from hugging_llama_cli.api import Server
from hugging_llama_cli.errors import CliError, UsageError
from hugging_llama_cli.integrations import INTEGRATIONS, ConfigFile, Integration, Target
from hugging_llama_cli.models import capabilities, local_models, name_of
from hugging_llama_cli.refused_flags import refuse
from hugging_llama_cli.user_files import MergeError, read, write
from hugging_llama_config.client import ClientSettings, load_client_settings

_HIDDEN_KEY = "YOUR-KEY"


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("tool", choices=list(INTEGRATIONS), metavar="TOOL", help=", ".join(INTEGRATIONS))
    parser.add_argument("--model", metavar="MODEL", help="the model to use (default: the newest that can chat)")
    parser.add_argument("--write", action="store_true", help="change the program's configuration file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    refuse(
        parser, ["--config", "-y", "--yes"], "nothing is asked here; --write changes the file, without it that is shown"
    )
    refuse(parser, ["--restore"], "--write says where it has put the file as it was: copy that back")


def run(args: argparse.Namespace) -> int:
    """Print or write."""
    settings = load_client_settings(args.url)
    model = args.model or _newest(settings)
    target = Target(url=settings.url, model=model, key=settings.api_key)
    made = INTEGRATIONS[args.tool](target)
    if args.write:
        return _write(made, args)
    # what is printed may be seen by others: a key is named there, not shown
    shown = INTEGRATIONS[args.tool](replace(target, key=_HIDDEN_KEY if target.key else ""))
    text = shown.file.change("") if shown.file else ""
    path = str(_path(shown.file)) if shown.file else None
    if args.json:
        print(json.dumps({"tool": args.tool, "file": path, "content": text or None, "shell": shown.setup or None}))
        return 0
    parts = [f"{shown.title}, with {model} at {target.url}:"]
    if shown.setup:
        parts.append(shown.setup)
    if text:
        parts.append(f"{'Or for' if shown.setup else 'For'} good, in {path}:\n\n{text.rstrip()}")
    parts.append(f"Then: {shown.then}")
    if text:
        parts.append(f"'hugging-llama launch {args.tool} --write' adds it to the file, keeping what is there.")
    print("\n\n".join(parts))
    return 0


def _write(made: Integration, args: argparse.Namespace) -> int:
    if made.file is None:
        raise UsageError(f"{made.title} has no file for this: leave --write out and use what is printed")
    path = _path(made.file)
    blocking = [Path.home() / name for name in made.file.blockers if (Path.home() / name).exists()]
    if blocking:
        raise CliError(f"'{blocking[0]}' may have comments, which would be lost: add what is printed without --write")
    before = read(path)
    try:
        after = made.file.change(before)
    except MergeError as error:
        raise CliError(f"'{path}' {error}: it was left alone; add what is printed without --write") from None
    backup = None
    if after != before:
        backup = write(path, after)
    if args.json:
        told = {"file": str(path), "changed": after != before, "backup": str(backup) if backup else None}
        print(json.dumps(told))
        return 0
    if after == before:
        print(f"{path} says so already")
    else:
        print(f"wrote {path}" + (f"; as it was: {backup}" if backup else ""))
    print(f"Then: {made.then}", file=sys.stderr)
    return 0


def _path(file: ConfigFile) -> Path:
    return Path.home() / file.path


def _newest(settings: ClientSettings) -> str:
    for model in local_models(Server(settings)):
        if "completion" in capabilities(model):
            return name_of(model).removesuffix(":latest")
    raise CliError("the server has no model that can chat: pull one, or name one with --model")
