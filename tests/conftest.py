"""Shared by all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.bar import WHOLE, Note, Tried, report
from tests.hub_server import StandInHub

# a busy machine must not fail a property for being slow
settings.register_profile("default", deadline=None)
settings.register_profile("bar", deadline=None, max_examples=10_000)
settings.load_profile("bar" if WHOLE else "default")

TRIED = pytest.StashKey[list[Tried]]()


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
