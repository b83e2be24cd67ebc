"""Start the server: this process becomes gunicorn, or with --detach another one does, in the background.

Flags win over HUGGING_LLAMA_* variables, those over OLLAMA_* variables, those over the configuration file.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping

from hugging_llama_cli.banner import GUNICORN, warnings, welcome
from hugging_llama_cli.errors import CliError, UsageError
from hugging_llama_cli.port import check_port
from hugging_llama_config.client import server_environment
from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.exposure import ExposureError, check_exposure

_VARIABLES = {
    "host": "HUGGING_LLAMA_HOST",
    "port": "HUGGING_LLAMA_PORT",
    "workers": "HUGGING_LLAMA_WORKERS",
    "max_resident_models": "HUGGING_LLAMA_MAX_LOADED_MODELS",
    "model_ttl": "HUGGING_LLAMA_KEEP_ALIVE_S",
    "preload": "HUGGING_LLAMA_PRELOAD",
    "insecure_no_auth": "HUGGING_LLAMA_INSECURE_NO_AUTH",
    "log_level": "HUGGING_LLAMA_LOG_LEVEL",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--host", metavar="ADDRESS", help="where to listen (default: 127.0.0.1)")
    parser.add_argument("--port", metavar="PORT", help="default: $OLLAMA_LOCAL_PORT or 11434")
    parser.add_argument("--workers", metavar="N", help="web worker processes (default: 2); the models are loaded once")
    parser.add_argument("--max-resident-models", metavar="N", help="models in memory at a time (default: as fit)")
    parser.add_argument(
        "--model-ttl", metavar="SECONDS", help="how long an unused model stays in memory (default: 300; -1: for ever)"
    )
    parser.add_argument("--preload", metavar="MODEL", action="append", help="load MODEL at once; may be repeated")
    parser.add_argument(
        "--insecure-no-auth",
        action="store_const",
        const="true",
        help="let everybody in who reaches an address of this machine that is not its own alone",
    )
    parser.add_argument(
        "--detach", action="store_true", help="start it in the background and return when it answers (see stop-server)"
    )
    parser.add_argument("--json", action="store_true", help="with --detach: print address, pid and log as JSON")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")


def run(args: argparse.Namespace) -> int:
    """Check what can be checked cheaply, say where the server will be, and become it."""
    if args.json and not args.detach:
        raise UsageError("--json is for --detach: a server in the foreground prints its log")
    environ = server_environment(_changes(args))
    try:
        settings = load_settings(environ=environ)
    except ConfigError as error:
        raise CliError(_in_flag_words(str(error))) from None
    check_port(settings.host, settings.port)
    try:
        check_exposure(settings, [settings.host])
    except ExposureError as error:
        raise CliError(str(error)) from None
    if args.detach:
        # psutil and requests are loaded for this alone
        from hugging_llama_cli import background

        for warning in warnings(settings):
            print(warning, file=sys.stderr)
        server = background.start(settings, environ, sys.stderr)
        print(json.dumps(background.facts(server)) if args.json else background.described(server))
        return 0
    print(welcome(settings), file=sys.stderr, flush=True)
    os.execve(sys.executable, [sys.executable, *GUNICORN], environ)


def _changes(args: argparse.Namespace) -> dict[str, str]:
    given: Mapping[str, str | list[str] | None] = vars(args)
    changes = {}
    for flag, variable in _VARIABLES.items():
        value = given[flag]
        if value is not None:
            changes[variable] = ",".join(value) if isinstance(value, list) else value
    return changes


def _in_flag_words(message: str) -> str:
    """The user typed a flag, not the variable that it sets."""
    for flag, variable in _VARIABLES.items():
        message = message.replace(f"{variable}:", f"--{flag.replace('_', '-')}:")
    return message
