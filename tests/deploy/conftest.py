"""One server and one nginx in front of it for all tests that leave them in service."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.nginx_proxy import UNLIMITED, Proxy, nginx
from tests.live_server import LiveServer, live_server


@dataclass(frozen=True, slots=True)
class Pair:
    """A real server with two workers and the demo model, and nginx in front."""

    server: LiveServer
    proxy: Proxy
    audit_log: Path

    @property
    def port(self) -> int:
        return int(self.server.url.rpartition(":")[2])


@pytest.fixture(scope="package")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("server")
    settings = {
        "trusted_proxies": "127.0.0.1",
        "audit_log": str(folder / "audit.log"),
        "origins": "https://llama.example.org",
        "hub_endpoint": "http://127.0.0.1:9",
        # a slow machine may need long for the streams that a reload waits for
        "graceful_timeout_s": "300",
    }
    with (
        live_server(folder, folder / "hub", **settings) as server,
        nginx(int(server.url.rpartition(":")[2]), UNLIMITED) as proxy,
    ):
        yield Pair(server, proxy, folder / "audit.log")
