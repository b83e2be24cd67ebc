"""Print what makes a shell complete this program's commands, flags and models.

For bash, in ~/.bashrc:               eval "$(hugging-llama completion bash)"
For zsh, in ~/.zshrc after compinit:  eval "$(hugging-llama completion zsh)"
For fish:  hugging-llama completion fish > ~/.config/fish/completions/hugging-llama.fish
"""

import argparse

from hugging_llama_cli.main import COMMANDS, PROGRAM, Command, command_parser
from hugging_llama_cli.shell_scripts import SCRIPTS, Described, Flag

_OF_MODELS = ("run", "show", "rm", "cp", "stop", "push", "embed", "tokenize", "bench")


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("shell", choices=list(SCRIPTS), help="the shell")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    print(SCRIPTS[args.shell](PROGRAM, [_described(command) for command in COMMANDS]))
    return 0


def _described(command: Command) -> Described:
    parser, _ = command_parser(command, None)
    flags, choices = [], []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        flags += [Flag(name, " ".join((action.help or "").split())) for name in action.option_strings]
        if not action.option_strings and action.choices:
            choices += [str(choice) for choice in action.choices]
    return Described(
        names=(command.name, *command.aliases),
        help=command.help,
        flags=tuple(flags),
        words=tuple(choices),
        takes_models=command.name in _OF_MODELS,
    )
