"""Add, list and revoke the API keys of a server on this machine: its file is changed, no request is made."""

import argparse
import json
import re
import sys
import time
from typing import Any

from hugging_llama_cli.errors import CliError, UsageError
from hugging_llama_cli.render import table
from hugging_llama_cli.terminal import columns
from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.keys import (
    HIGHEST_PRIORITY,
    MOST_A_MINUTE,
    ROLES,
    Key,
    KeyFileError,
    add_key,
    new_key,
    read_keys,
    revoke_key,
)
from hugging_llama_config.model_pattern import pattern_fault

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_ACTIONS = ("add", "list", "revoke")
_OF_A_NEW_KEY = {
    "roles": "--role", "models": "--model", "requests_per_minute": "--requests-per-minute",
    "tokens_per_minute": "--tokens-per-minute", "priority": "--priority",
}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.epilog = "Once there is a file of keys, every request needs one. A running server sees changes at once."
    parser.add_argument("action", choices=_ACTIONS, help="make a key and print it once, list them, or take one away")
    parser.add_argument("name", nargs="?", default="", help="whom or what a key is for; to revoke it, or its id")
    parser.add_argument("--file", metavar="PATH", help="the file (default: HUGGING_LLAMA_KEYS_FILE, or in the home)")
    parser.add_argument(
        "--role", action="append", choices=ROLES, dest="roles", help="what it may do; may be repeated (default: use)"
    )
    parser.add_argument(
        "--model", action="append", dest="models", type=_pattern, metavar="PATTERN",
        help="the models it may name, such as 'qwen/*'; may be repeated (default: all)",
    )  # fmt: skip
    for limit, text in (("requests", "requests a minute"), ("tokens", "tokens a minute, of prompts and answers")):
        parser.add_argument(f"--{limit}-per-minute", type=_limit, metavar="N", help=f"{text} (default: any)")
    parser.add_argument("--priority", type=_priority, metavar="N", help="the higher is served first (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Change or print the file."""
    _check(args)
    try:
        settings = load_settings()
        path = args.file or settings.keys_path
        if args.action == "list":
            return _list(path, args, is_named=path == settings.keys_file)
        return {"add": _add, "revoke": _revoke}[args.action](path, args)
    except (ConfigError, KeyFileError) as error:
        raise CliError(str(error)) from None


def _check(args: argparse.Namespace) -> None:
    """Raises UsageError for what would have no effect."""
    given = [flag for name, flag in _OF_A_NEW_KEY.items() if getattr(args, name) is not None]
    if args.action != "add" and given:
        raise UsageError(f"{given[0]} is for 'keys add'")
    if args.action == "list" and args.name:
        raise UsageError("'keys list' takes no name: it lists them all")
    if args.file == "":
        raise UsageError("--file needs a path")
    if args.models and "admin" in (args.roles or ()):
        raise UsageError("a key with the role admin may use all models: leave --model out, or choose other roles")


def _add(path: str, args: argparse.Namespace) -> int:
    if not _NAME.fullmatch(args.name):
        raise UsageError("a key's name is made of letters, digits and . _ @ - (64 at most)")
    key, secret = new_key(
        args.name,
        roles=tuple(dict.fromkeys(args.roles or ["use"])),
        models=tuple(dict.fromkeys(args.models or ())),
        requests_per_minute=args.requests_per_minute or 0,
        tokens_per_minute=args.tokens_per_minute or 0,
        priority=args.priority or 0,
    )
    add_key(path, key)
    try:
        print(json.dumps(_facts(key) | {"key": secret}) if args.json else secret, flush=True)
    except OSError:
        revoke_key(path, key.id)  # nobody has seen it
        raise
    return 0


def _list(path: str, args: argparse.Namespace, *, is_named: bool) -> int:
    try:
        keys = read_keys(path)
    except FileNotFoundError:
        if args.json:
            print("[]")
            return 0
        effect = "no server starts without it" if is_named else "a server that starts without it asks for none"
        print(f"No keys: there is no file {path}, and {effect}.")
        return 0
    if args.json:
        print(json.dumps([_facts(key) for key in keys], indent=2))
        return 0
    if not keys:
        print(f"No keys: {path} holds none, and nobody may come in until 'hugging-llama keys add NAME' makes one.")
        return 0
    rows = [(key.name, key.id, ",".join(key.roles), _models(key), _limits(key), _day(key)) for key in keys]
    print(table(("NAME", "ID", "ROLES", "MODELS", "LIMITS", "CREATED"), rows, columns(sys.stdout), least=("ID",)))
    return 0


def _revoke(path: str, args: argparse.Namespace) -> int:
    if not args.name:
        raise UsageError("which key? Give its name or id (see 'hugging-llama keys list')")
    key = revoke_key(path, args.name)
    print(json.dumps({"revoked": key.name, "id": key.id}) if args.json else f"revoked '{key.name}'")
    return 0


def _facts(key: Key) -> dict[str, Any]:
    """All of a key that is no secret."""
    shown = ("name", "id", "roles", "models", "requests_per_minute", "tokens_per_minute", "priority", "created_at_s")
    return {name: getattr(key, name) for name in shown}


def _limits(key: Key) -> str:
    limits = ((key.requests_per_minute, "requests/min"), (key.tokens_per_minute, "tokens/min"))
    found = [f"{count} {unit}" for count, unit in limits if count]
    return ", ".join([*found, *([f"priority {key.priority}"] if key.priority else [])]) or "-"


def _models(key: Key) -> str:
    """What is no pattern stands in quotes: a key that has one may use less than it seems, or nothing."""
    if not key.models or "admin" in key.roles:
        return "all"
    return ",".join(repr(text) if pattern_fault(text) else text for text in key.models)


def _day(key: Key) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(key.created_at_s))


def _limit(text: str) -> int:
    return _number(text, 0, MOST_A_MINUTE)


def _priority(text: str) -> int:
    return _number(text, -HIGHEST_PRIORITY, HIGHEST_PRIORITY)


def _number(text: str, least: int, most: int) -> int:
    # so short that `int` takes it
    if not re.fullmatch(r"-?[0-9]{1,20}", text) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from {least} to {most}")
    return int(text)


def _pattern(text: str) -> str:
    if fault := pattern_fault(text):
        raise argparse.ArgumentTypeError(f"no model is covered by {text[:80]!r}: {fault}")
    return text
