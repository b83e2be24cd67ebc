"""What a check has found, and what it may look at."""

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hugging_llama_config.client import ClientSettings
from hugging_llama_config.env import Loaded
from hugging_llama_config.settings import Settings

_MAX_SAID = 300


class Level(StrEnum):
    """A problem keeps something from working; a warning is worth a look."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of what was found and, unless all is well, one of what to do."""

    level: Level
    found: str
    advice: str = ""


def ok(found: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, found)


def warning(found: str, advice: str) -> Finding:
    """It works, but."""
    return Finding(Level.WARNING, found, advice)


def problem(found: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(Level.PROBLEM, found, advice)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is examined: the settings with which a server would start here, and this user's view of servers and Hub.

    `url` is a running server, as it is seen through its proxy; `direct` the same one without.
    """

    loaded: Loaded
    client: ClientSettings
    environ: Mapping[str, str]
    url: str = ""
    direct: str = ""
    model: str = ""

    @property
    def settings(self) -> Settings:
        return self.loaded.settings


@dataclass(frozen=True, slots=True)
class Check:
    """A name to ask for it by, and what it does."""

    name: str
    run: Callable[[Subject], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended that was started to try something: its lines, and the reason if it failed."""

    lines: Sequence[str]
    reason: str


def try_out(command: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> Ended:
    """Run a command to its end. What is broken there breaks nothing here."""
    try:
        done = subprocess.run(
            command, env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Ended((), f"did not end within {timeout_s:.0f} s")
    except OSError as error:
        return Ended((), f"can't be started: {error.strerror}")
    lines = done.stdout.splitlines()
    if done.returncode < 0:
        return Ended(lines, f"ended by {_signal_name(-done.returncode)}")
    return Ended(lines, _last_words(done.stderr) if done.returncode else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(text: str) -> str:
    """The last line, which is the error's of a traceback."""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return said[-1][:_MAX_SAID] if said else "no reason is given"


def innermost(error: Exception) -> str:
    """Of errors that an HTTP library has wrapped, what the system said."""
    reason = getattr(error.args[0], "reason", error) if error.args else error
    return str(reason).rpartition(": ")[2][:200]
