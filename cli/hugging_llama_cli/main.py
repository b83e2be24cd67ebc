"""The command table and the way from `argv` to an exit code.

Only what `--help` needs is imported here: a command's module, and with it requests, is imported when it runs.
"""

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from hugging_llama_cli.errors import CliError, UsageError
from hugging_llama_cli.help_text import entries, fitted
from hugging_llama_cli.plain import one_line

PROGRAM = "hugging-llama"
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


@dataclass(frozen=True, slots=True)
class Command:
    """One line of the table; the code is in `hugging_llama_cli.commands.<name>`.

    A `bare_flags` entry takes its value only after `=`: alone it means `true` and leaves the next word to others.
    """

    name: str
    help: str
    aliases: tuple[str, ...] = ()
    bare_flags: tuple[str, ...] = ()


COMMANDS = (
    Command("serve", "Start the server", aliases=("start",)),
    Command("run", "Chat with a model, or answer one prompt", bare_flags=("--think", "--truncate")),
    Command("pull", "Download a model from the Hugging Face Hub"),
    Command("push", "Upload a model of your own to the Hugging Face Hub"),
    Command("create", "Make a model of your own: from a Modelfile, or with other weights or parameters"),
    Command("cp", "Copy a model: the same under another name"),
    Command("rm", "Delete models"),
    Command("list", "List the models on disk", aliases=("ls",)),
    Command("show", "Show what is known about a model on disk"),
    Command("ps", "List the models in memory"),
    Command("stop", "Take a model out of memory"),
    Command("stop-server", "Stop the server that 'serve --detach' started"),
    Command("embed", "Turn texts into vectors"),
    Command("tokenize", "Print the token ids of a text"),
    Command("keys", "Add, list and revoke the API keys of the server on this machine"),
    Command("config", "Show the settings, where each one comes from, and what is wrong with them"),
    Command("doctor", "Check this machine and its settings, and say what to do"),
    Command("bench", "Measure how fast the server answers with a model"),
    Command("sessions", "List, export and delete the chats that are kept"),
    Command("catalog", "List well-known models that fit this machine's memory"),
    Command("launch", "Point another program at the server: Claude Code, Codex, opencode, …"),
    Command("completion", "Print what makes a shell complete this program's commands and models"),
    Command("version", "Print the versions of client and server"),
)


class _Parser(argparse.ArgumentParser):
    """Reports a usage error as our one line instead of argparse's usage text and line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see '{self.prog} --help')")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    _prepare_streams()
    try:
        code = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except CliError as error:
        print(f"Error: {one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    except OSError as error:  # a full disk behind stdout, for example
        _silence_stdout()
        print(f"Error: {one_line(error)}", file=sys.stderr)
        return CliError.exit_code
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        words = f"{type(error).__name__}: {one_line(error)}"
        print(f"Error: this is a bug, please report it with what 'python -X dev' tells: {words}", file=sys.stderr)
        return CliError.exit_code


def _prepare_streams() -> None:
    """Make stdout and stderr take any text, also where they are closed or know few characters."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until this process ends
        elif reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")


def _dispatch(argv: Sequence[str]) -> int:
    top = _top_parser()
    options = top.parse_args(argv)
    if options.version:
        options.command, options.arguments = "version", []
    if not options.command:
        top.print_help()
        return 0
    if options.command == "help":
        options.command, options.arguments = _help_arguments(options.arguments)
        if not options.command:
            top.print_help()
            return 0
    command = _find(options.command)
    gc.disable()  # nothing that is imported is garbage, and looking for it takes a seventh of the time
    try:
        parser, run = command_parser(command, options.url)
    finally:
        gc.enable()
    arguments = _spell_out(options.arguments, command.bare_flags)
    return int(run(parser.parse_intermixed_args(arguments)))


def command_parser(command: Command, url: str | None) -> tuple[argparse.ArgumentParser, Callable[..., int]]:
    """The arguments of a command, and what carries it out; `url` is one that was given before the command."""
    # imported by name, so that the whole table costs nothing until one command is asked for
    from importlib import import_module

    module = import_module(f"hugging_llama_cli.commands.{command.name.replace('-', '_')}")
    parser = _Parser(
        prog=f"{PROGRAM} {command.name}", description=fitted(module.__doc__ or ""), allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    module.configure(parser)
    parser.add_argument(
        "--url", default=url, help="the server (default: $HUGGING_LLAMA_HOST, $OLLAMA_HOST or 127.0.0.1)"
    )
    return parser, module.run


def _top_parser() -> _Parser:
    parser = _Parser(prog=PROGRAM, add_help=False, allow_abbrev=False, usage=f"{PROGRAM} [--url URL] COMMAND ...")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Ollama's API and CLI, powered by Hugging Face models."
    lines = entries(
        [
            (command.name, command.help + (f" (also: {', '.join(command.aliases)})" if command.aliases else ""))
            for command in COMMANDS
        ]
    )
    more = fitted(f"'{PROGRAM} COMMAND --help' tells more. To begin: {PROGRAM} run demo")
    parser.epilog = "\n".join(["commands:", *lines, "", more])
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_argument("--url", help="the server (default: $HUGGING_LLAMA_HOST, $OLLAMA_HOST or 127.0.0.1)")
    parser.add_argument("-v", "--version", action="store_true", help="print the versions of client and server")
    parser.add_argument("-h", "--help", action="help", help="print this help")
    return parser


def _help_arguments(arguments: list[str]) -> tuple[str, list[str]]:
    """`help run` is `run --help`."""
    return (arguments[0], ["--help"]) if arguments else ("", [])


def _find(name: str) -> Command:
    for command in COMMANDS:
        if name in (command.name, *command.aliases):
            return command
    import difflib  # only needed by who mistypes

    names = [n for command in COMMANDS for n in (command.name, *command.aliases)]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"see '{PROGRAM} --help'"
    raise UsageError(f"unknown command '{name}'; {hint}")


def _spell_out(arguments: list[str], bare_flags: tuple[str, ...]) -> list[str]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [f"{word}=true" if word in bare_flags else word for word in arguments[:end]]
    return options + arguments[end:]


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's own flush at exit finds nothing to complain about."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
