"""Shared by all tests."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from hugging_llama.store import child_connection
from tests.hub_server import StandInHub

# a busy machine must not fail a property for being slow; `HYPOTHESIS_PROFILE=random` looks where nobody has looked yet
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("random"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


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
