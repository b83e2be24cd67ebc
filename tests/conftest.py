"""Shared by all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from hugging_llama.store import child_connection
from tests.hub_server import StandInHub

# a busy machine must not fail a property for being slow
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


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
