"""Shared by all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.hub_server import StandInHub

# a busy machine must not fail a property for being slow
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    """A stand-in Hub that runs; see `tests.hub_server`."""
    with StandInHub() as hub:
        yield hub
