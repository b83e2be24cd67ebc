"""Check this machine, the settings of a server that is started here, and with --url a running one.

Nothing is changed. Each finding is ok, a warning or a problem, with what to do; the exit code is 1 if there is a
problem.
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from hugging_llama_cli.checks.finding import Check, Finding, Level, Subject, warning
from hugging_llama_cli.errors import UsageError
from hugging_llama_cli.plain import printable
from hugging_llama_cli.setting_flags import add_config_flag, config_variable
from hugging_llama_cli.terminal import Spinner, columns
from hugging_llama_config.client import load_client_settings, server_environment
from hugging_llama_config.env import load
from hugging_llama_config.host import parse_host

_NAMES = (
    "settings", "python", "packages", "app", "torch", "gpu", "cpu", "kernels", "memory", "folders", "limits", "port",
    "hub", "url",
)  # fmt: skip
_COLOURS = {Level.OK: "\x1b[32m", Level.WARNING: "\x1b[33m", Level.PROBLEM: "\x1b[31m"}
_RESET = "\x1b[0m"
_LEVEL_CELLS, _NAME_CELLS = max(map(len, Level)), max(map(len, _NAMES))
_INDENT = _LEVEL_CELLS + _NAME_CELLS + 4
_LEAST_WIDTH = 60
_NO_LIMIT = 10**6


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join(_NAMES)} (default: all)")
    add_config_flag(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--direct", metavar="URL", default="", help="the server of --url without its proxy, to compare with"
    )
    parser.add_argument("--model", default="", help="the model for --url to stream (default: the smallest there is)")


def run(args: argparse.Namespace) -> int:
    """Print each finding as it comes."""
    if unknown := [name for name in args.checks if name not in _NAMES]:
        raise UsageError(f"there is no check {unknown[0]!r}; there are {', '.join(_NAMES)}")
    if (args.direct or args.model or "url" in args.checks) and not args.url:
        raise UsageError("which server? Name it with --url")
    environ = server_environment(config_variable(args))
    client = load_client_settings(args.url, environ)
    subject = Subject(
        loaded=load(environ),
        client=client,
        environ=environ,
        url=client.url if args.url else "",
        direct=parse_host(args.direct).url if args.direct else "",
        model=args.model,
    )
    report = _JsonReport() if args.json else _TextReport(sys.stdout, colour=subject.client.colour)
    wanted = args.checks or _NAMES
    for check in _checks(wanted):
        with Spinner(sys.stderr):
            found = list(_findings(check, subject))
        for finding in found:
            report.add(check.name, finding)
    return report.finish()


def _checks(wanted: Sequence[str]) -> Iterator[Check]:
    """Imported one by one, so that a library that is broken spoils one check and not all."""
    from hugging_llama_cli.checks import combinations, compute, folders, installed, listening, resources

    shared = compute.Compute()
    known = {
        "settings": combinations.check_settings,
        "python": installed.check_python,
        "packages": installed.check_packages,
        "app": installed.check_app,
        "torch": shared.check_torch,
        "gpu": shared.check_gpu,
        "cpu": compute.check_cpu,
        "kernels": shared.check_kernels,
        "memory": resources.check_memory,
        "folders": folders.check_folders,
        "limits": resources.check_limits,
        "port": listening.check_listening,
        "hub": _check_hub,
        "url": _check_url,
    }
    return (Check(name, known[name]) for name in _NAMES if name in wanted)


def _check_hub(subject: Subject) -> Iterator[Finding]:
    from hugging_llama_cli.checks.hub_access import check_hub

    return check_hub(subject)


def _check_url(subject: Subject) -> Iterator[Finding]:
    from hugging_llama_cli.checks.served_url import check_url

    return check_url(subject)


def _findings(check: Check, subject: Subject) -> Iterator[Finding]:
    try:
        yield from check.run(subject)
    except Exception as error:  # a doctor must not fall ill of what it finds
        reason = f"{type(error).__name__}: {error}"
        yield warning(f"this could not be checked: {reason}", "report it, with this line")


class _TextReport:
    """Lines as they come: wrapped on a terminal, one a finding and its advice elsewhere."""

    def __init__(self, stream: TextIO, *, colour: bool) -> None:
        width = columns(stream)
        self._width = max(width, _LEAST_WIDTH) if width else _NO_LIMIT
        self._colour = colour and bool(width)
        self._levels: list[Level] = []

    def add(self, name: str, finding: Finding) -> None:
        self._levels.append(finding.level)
        level = f"{finding.level:<{_LEVEL_CELLS}}"
        if self._colour:
            level = f"{_COLOURS[finding.level]}{level}{_RESET}"
        first, *rest = self._wrapped(finding.found)
        print(f"{level}  {name:<{_NAME_CELLS}}  {first}")
        for line in rest:
            print(" " * _INDENT + line)
        for i, line in enumerate(self._wrapped(finding.advice) if finding.advice else ()):
            print(" " * (_INDENT - 3) + ("-> " if i == 0 else "   ") + line)
        sys.stdout.flush()

    def finish(self) -> int:
        print("\n" + _summary(self._levels))
        return 1 if Level.PROBLEM in self._levels else 0

    def _wrapped(self, text: str) -> list[str]:
        text = " ".join(printable(text).split())
        return textwrap.wrap(text, self._width - _INDENT, break_on_hyphens=False) or [""]


class _JsonReport:
    """One object at the end."""

    def __init__(self) -> None:
        self._rows: list[dict[str, str]] = []

    def add(self, name: str, finding: Finding) -> None:
        row = {"check": name, "status": str(finding.level), "found": finding.found, "advice": finding.advice}
        self._rows.append(row)

    def finish(self) -> int:
        counts = {str(level): sum(row["status"] == level for row in self._rows) for level in Level}
        print(json.dumps({"ok": not counts["problem"], "counts": counts, "checks": self._rows}, indent=2))
        return 1 if counts["problem"] else 0


def _summary(levels: Iterable[Level]) -> str:
    found = list(levels)
    counts = [(found.count(level), level) for level in (Level.PROBLEM, Level.WARNING, Level.OK)]
    parts = [f"{count} {level}{'s' * (level is not Level.OK and count != 1)}" for count, level in counts]
    return ", ".join(parts)
