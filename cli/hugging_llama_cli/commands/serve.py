"""Start the server: this process becomes gunicorn.

Each setting has a flag, a variable (HUGGING_LLAMA_ and the flag's name, in capitals) and a key of the TOML files (the
flag's name with _). A flag wins over the variable, that over Ollama's variables, those over the files, those over the
default. 'hugging-llama config show' says what is set, and where.
"""

import argparse
import os
import shlex
import shutil
import sys
from typing import NoReturn

from hugging_llama_cli.errors import CliError
from hugging_llama_cli.port import check_port
from hugging_llama_cli.setting_flags import add_setting_flags, config_variable, given_flags, variables
from hugging_llama_config.client import server_environment
from hugging_llama_config.env import load
from hugging_llama_config.exposure import ExposureError, check_exposure
from hugging_llama_config.host import HostUrl
from hugging_llama_config.settings import Settings

_GUNICORN = ("-m", "gunicorn", "-c", "python:hugging_llama_config.gunicorn", "hugging_llama:create_app()")


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    add_setting_flags(parser)


def run(args: argparse.Namespace) -> NoReturn:
    """Check what can be checked cheaply, say where the server will be, and become it."""
    flags, config = given_flags(args), config_variable(args)
    loaded = load(server_environment(config), flags)
    if loaded.errors:
        raise CliError(_in_flag_words(str(loaded.errors[0])) if config else str(loaded.errors[0]))
    settings = loaded.settings
    check_port(settings.host, settings.port)
    try:
        check_exposure(settings, [settings.host])
    except ExposureError as error:
        raise CliError(str(error)) from None
    print(_welcome(settings), file=sys.stderr, flush=True)
    # its warnings are those of gunicorn, which reads the same
    environ = server_environment({**config, **variables(flags)})
    os.execve(sys.executable, [sys.executable, *_GUNICORN], environ)


def _in_flag_words(message: str) -> str:
    """The user typed a flag, not the variable that it sets."""
    return message.replace("HUGGING_LLAMA_CONFIG: ", "--config: ", 1)


def _program() -> str:
    """What to type for this program: its name where that is found, else the path by which it was started."""
    if shutil.which("hugging-llama"):
        return "hugging-llama"
    return "python -m hugging_llama_cli" if sys.argv[0].endswith("__main__.py") else shlex.quote(sys.argv[0])


def _welcome(settings: Settings) -> str:
    url = HostUrl(host=settings.host, port=settings.port).url
    target = "" if settings.port == 11434 else f"--url {url} "
    return (
        f"Starting Hugging Llama on {url}\n"
        "Try it from another terminal:\n"
        f"  {_program()} {target}run demo\n"
        f"""  curl {url}/api/generate -d '{{"model": "demo", "prompt": "Hello"}}'"""
    )
