"""Flags of Ollama's command line that can't be honoured here: each is refused with the reason, and not as unknown."""

import argparse
from collections.abc import Sequence
from typing import Any

from hugging_llama_cli.errors import UsageError


class _Refuse(argparse.Action):
    """`=false` asks for nothing and is taken, as for all of Ollama's switches."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, flag: str | None = None
    ) -> None:
        if value != "false":
            raise UsageError(f"{flag} is not supported: {self.const}")


def refuse_insecure(parser: argparse.ArgumentParser) -> None:
    """Ollama takes models from a registry without encryption with it."""
    reason = "the Hub's address, http or https, is a setting of the server (HUGGING_LLAMA_HUB_ENDPOINT)"
    refuse(parser, ["--insecure"], reason)


def refuse(parser: argparse.ArgumentParser, flags: Sequence[str], reason: str) -> None:
    """Whether the flag takes a value does not matter; help says nothing of it."""
    parser.add_argument(
        *flags,
        action=_Refuse,
        nargs="?",
        const=reason,
        default=argparse.SUPPRESS,
        dest="refused",
        help=argparse.SUPPRESS,
    )
