"""Start the server: this process becomes gunicorn, or with --detach another one does, in the background.

Each setting has a flag, a variable (HUGGING_LLAMA_ and the flag's name, in capitals) and a key of the TOML files (the
flag's name with _). A flag wins over the variable, that over Ollama's variables, those over the files, those over the
default. 'hugging-llama config show' says what is set, and where.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence

from hugging_llama_cli.banner import GUNICORN, warnings, welcome
from hugging_llama_cli.errors import CliError, UsageError
from hugging_llama_cli.port import check_port
from hugging_llama_cli.setting_flags import add_setting_flags, config_variable, given_flags, variables
from hugging_llama_config.audit_file import AuditFileError, check_audit_file
from hugging_llama_config.client import server_environment
from hugging_llama_config.env import GivenFlag, load
from hugging_llama_config.exposure import ExposureError, check_exposure
from hugging_llama_config.settings import SETTINGS


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "--detach", action="store_true", help="start it in the background and return when it answers (see stop-server)"
    )
    parser.add_argument("--json", action="store_true", help="with --detach: print address, pid and log as JSON")
    add_setting_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Check what can be checked cheaply, say where the server will be, and become it."""
    if args.json and not args.detach:
        raise UsageError("--json is for --detach: a server in the foreground prints its log")
    flags, config = given_flags(args), config_variable(args)
    loaded = load(server_environment(config), flags)
    if loaded.errors:
        message = _as_typed(str(loaded.errors[0]), flags, config)
        raise UsageError(message) if message.startswith("--") else CliError(message)
    settings = loaded.settings
    check_port(settings.host, settings.port)
    try:
        check_exposure(settings, [settings.host])
        check_audit_file(settings.audit_log)
    except (ExposureError, AuditFileError) as error:
        raise CliError(_as_typed(str(error), flags, config)) from None
    # its warnings are those of gunicorn, which reads the same
    environ = server_environment({**config, **variables(flags)})
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


def _as_typed(message: str, flags: Sequence[GivenFlag], config: Mapping[str, str]) -> str:
    """An error about a variable that a flag has set is one about the flag."""
    typed = {SETTINGS[flag.name].variable: flag.flag for flag in flags} | dict.fromkeys(config, "--config")
    variable, colon, reason = message.partition(": ")
    return f"{typed[variable]}: {reason}" if colon and variable in typed else message
