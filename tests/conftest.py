"""Shared by all tests."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from hugging_llama.store import child_connection
from tests.bar import WHOLE, Note, Tried, report
from tests.hub_server import StandInHub

# a busy machine must not fail a property for being slow; `HYPOTHESIS_PROFILE=random` looks where nobody has looked yet
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("random"), derandomize=True)
settings.register_profile("bar", settings.get_profile("random"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "bar" if WHOLE else "same"))

TRIED = pytest.StashKey[list[Tried]]()


@pytest.fixture(scope="session", autouse=True)
def _killed_children_are_seen_to_end() -> Iterator[None]:
    """On a busy machine that takes longer than a server's callers are kept waiting for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child_connection, "_EXIT_WAIT_S", 60.0)
        yield


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    """A stand-in Hub that runs; see `tests.hub_server`."""
    with StandInHub() as hub:
        yield hub


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """For the report of `tests.bar`: what was tried for a row, and what became of it."""
    tried = request.config.stash.setdefault(TRIED, [])

    def note(row: str, faults: int, lost: int = 0, worst_s: float | None = None, more: str = "") -> None:
        tried.append(Tried(row, faults, lost, worst_s, more))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The report, if any test of it was run."""
    if tried := config.stash.get(TRIED, []):
        terminalreporter.section("the bar")
        terminalreporter.write_line(report(tried))
