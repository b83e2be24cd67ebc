"""Show the settings of a server that is started here: each value and where it comes from.

show    every setting, its value and what set it: a flag of 'serve' given here, a variable or a file
path    the files that are read, in their order: a later one wins
check   all that is wrong with one file
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hugging_llama_cli import render
from hugging_llama_cli.errors import CliError, UsageError
from hugging_llama_cli.plain import one_line
from hugging_llama_cli.setting_flags import add_setting_flags, config_variable, given_flags
from hugging_llama_cli.terminal import columns
from hugging_llama_config.client import server_environment
from hugging_llama_config.env import DEFAULT, Loaded, load
from hugging_llama_config.files import check_file, read_files
from hugging_llama_config.settings import SETTINGS

_ACTIONS = ("show", "path", "check")


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("action", choices=_ACTIONS, help="what to do")
    parser.add_argument("file", nargs="?", default="", metavar="FILE", help="the file to check")
    add_setting_flags(parser, is_shown=False)
    parser.usage = (
        f"{parser.prog} {{{','.join(_ACTIONS)}}} [FILE] [--changed] [--json] [--config FILE] [--SETTING VALUE ...]"
    )
    parser.add_argument("--changed", action="store_true", help="show only what is not left at its default")
    parser.add_argument("--json", action="store_true", help="print JSON, durations in seconds and sizes in bytes")


def run(args: argparse.Namespace) -> int:
    """Print to stdout; what is wrong goes to stderr, and makes the exit code 1."""
    flags = given_flags(args)
    if flags and args.action != "show":
        raise UsageError(f"'config {args.action}' takes no settings; '{flags[0].flag}' is for 'config show'")
    if args.action == "check":
        return _check(args)
    if args.file:
        raise UsageError(f"'config {args.action}' takes no file; name one with --config")
    environ = server_environment(config_variable(args))
    if args.action == "path":
        return _print_places(read_files(environ).places, is_json=args.json)
    loaded = load(environ, flags)
    shown = [name for name in SETTINGS if not args.changed or loaded.origins[name] != DEFAULT]
    print(_as_json(loaded, shown) if args.json else _as_table(loaded, shown))
    for warning in loaded.warnings:
        print(f"Warning: {one_line(ValueError(warning))}", file=sys.stderr)
    return _report(loaded.errors)


def _check(args: argparse.Namespace) -> int:
    if not args.file:
        raise UsageError("which file? 'hugging-llama config check FILE'")
    errors = check_file(Path(args.file))
    if args.json:
        print(json.dumps({"file": args.file, "errors": [str(error) for error in errors]}, indent=2))
        return 1 if errors else 0
    if not errors:
        print(f"{args.file}: nothing is wrong with it")
    return _report(errors)


def _report(errors: list[Any]) -> int:
    for error in errors:
        print(f"Error: {one_line(error)}", file=sys.stderr)
    return CliError.exit_code if errors else 0


def _print_places(found: Sequence[Path], *, is_json: bool) -> int:
    if is_json:
        print(json.dumps([{"path": str(path), "exists": path.is_file()} for path in found], indent=2))
        return 0
    rows = [(str(path), "read" if path.is_file() else "not there") for path in found]
    print(render.table(("FILE", "STATE"), rows, columns(sys.stdout)))
    return 0


def _as_table(loaded: Loaded, names: list[str]) -> str:
    rows = [
        (name, SETTINGS[name].show(getattr(loaded.settings, name)) or "-", loaded.origins[name].replace("\n", " "))
        for name in names
    ]
    return render.squeezed_table(("SETTING", "VALUE", "FROM"), rows, columns(sys.stdout))


def _as_json(loaded: Loaded, names: list[str]) -> str:
    found = {"files": [str(path) for path in loaded.files], "settings": {name: _entry(loaded, name) for name in names}}
    wrong = {"errors": [str(error) for error in loaded.errors], "warnings": loaded.warnings}
    return json.dumps(found | wrong, indent=2)


def _entry(loaded: Loaded, name: str) -> dict[str, Any]:
    setting = SETTINGS[name]
    value = getattr(loaded.settings, name)
    origin = loaded.origins[name]
    if setting.is_secret:
        return {"value": None, "is_set": bool(value), "from": origin}
    if isinstance(value, str):
        value = setting.show(value)
    # JSON knows no infinity
    return {"value": "forever" if value == math.inf else value, "from": origin}
