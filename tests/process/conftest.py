"""One server of each kind for all tests that leave it in service; none leaves a process behind, whatever they kill."""

from collections.abc import Iterator

import pytest

from tests.process.servers import Server, serve


@pytest.fixture(scope="session")
def gevent_server() -> Iterator[Server]:
    with serve("gevent", TEST_STALLED_S="1") as running:
        yield running


@pytest.fixture(scope="session")
def gthread_server() -> Iterator[Server]:
    with serve("gthread") as running:
        yield running


@pytest.fixture(scope="session")
def flask_server() -> Iterator[Server]:
    with serve("flask") as running:
        yield running


@pytest.fixture(scope="session", params=["gevent", "gthread", "flask"])
def any_server(request: pytest.FixtureRequest) -> Server:
    server = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(server, Server)
    return server


@pytest.fixture(scope="session", params=["gthread", "flask"])
def mounted_server(request: pytest.FixtureRequest) -> Server:
    server = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(server, Server)
    return server
