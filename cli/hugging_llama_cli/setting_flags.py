"""The flags of `serve`: one for each setting, as it is described in the settings."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hugging_llama_cli.errors import UsageError
from hugging_llama_config.described import PREFIX, Setting
from hugging_llama_config.env import GivenFlag
from hugging_llama_config.settings import GROUPS, SETTINGS

_GIVEN = "given_flags"


class _Give(argparse.Action):
    """Notes the flag as it was typed, since errors name it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, flag: str | None = None
    ) -> None:
        if not value:
            raise UsageError(f"{flag} needs a value")
        given = [*getattr(namespace, _GIVEN, []), GivenFlag(self.dest, flag or "", value)]
        setattr(namespace, _GIVEN, given)


def add_setting_flags(parser: argparse.ArgumentParser, *, is_shown: bool = True) -> None:
    """A flag a setting, in the groups of the documents, and --config. `is_shown`: in the help, too."""
    parser.usage = f"{parser.prog} [--config FILE] [--SETTING VALUE ...]"
    add_config_flag(parser)
    group = parser.add_argument_group()
    for name, setting in SETTINGS.items():
        if name in GROUPS:
            group = parser.add_argument_group(GROUPS[name])
        if setting.flag:
            # alone, a switch is switched on
            alone: dict[str, Any] = {"nargs": "?", "const": "true"} if isinstance(setting.default, bool) else {}
            group.add_argument(
                setting.flag, *setting.flags, dest=name, action=_Give, metavar=_metavar(setting),
                help=_help(setting) if is_shown else argparse.SUPPRESS, **alone,
            )  # fmt: skip


def add_config_flag(parser: argparse.ArgumentParser) -> None:
    """The file of settings."""
    parser.add_argument("--config", metavar="FILE", help="the TOML file of settings, in place of all others")


def given_flags(args: argparse.Namespace) -> list[GivenFlag]:
    """The settings on the command line; those of one list are one."""
    given: dict[str, GivenFlag] = {}
    for flag in getattr(args, _GIVEN, []):
        separator = SETTINGS[flag.name].kind.separator
        if separator and (before := given.get(flag.name)):
            flag = GivenFlag(flag.name, flag.flag, f"{before.text}{separator}{flag.text}")
        given[flag.name] = flag
    return list(given.values())


def variables(flags: Sequence[GivenFlag]) -> dict[str, str]:
    """What the flags are to a process that is started."""
    return {SETTINGS[flag.name].variable: flag.text for flag in flags}


def config_variable(args: argparse.Namespace) -> Mapping[str, str]:
    """The file that is named, wherever the process that reads it stands. Raises UsageError."""
    if args.config is None:
        return {}
    if not args.config.strip():
        raise UsageError("--config needs a value")
    return {f"{PREFIX}CONFIG": os.path.abspath(Path(args.config).expanduser())}


def _metavar(setting: Setting) -> str:
    if setting.choices:
        return "|".join(setting.choices)
    return setting.kind.metavar


def _help(setting: Setting) -> str:
    text = setting.meaning.replace("`", "")
    default = "" if setting.default in ("", ()) and not setting.origin else f" (default: {setting.default_text})"
    more = "; may be repeated" if setting.kind.separator else ""
    return f"{text}{more}{default}".replace("%", "%%")
