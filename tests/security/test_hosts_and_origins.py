"""Row S1, and section 6a: no page of somebody else's reaches this server, whatever name it calls it by."""

import itertools
import re

import pytest

from tests.functional.conftest import MakeClient
from tests.functional.field_probes import World
from tests.live_server import LiveServer
from tests.security.raw import sent

OURS = ("localhost", "localhost:11434", "127.0.0.1:80", "127.1.2.3", "[::1]:1", "a.localhost", "LOCALHOST", "10.0.0.9")
STRANGERS = (
    "evil.com", "evil.com:11434", "localhost.evil.com", "127.0.0.1.nip.io", "127.0.0.1.evil.com", "evil.com.", "0",
    "0x7f.1", "2130706433", "127.1", "evil.com/localhost", "localhost@evil.com", "evil.com#localhost", "evil.com:80:80",
    "[::1].evil.com", "localhost\u200b", "localhost%00.evil.com", "8.8.8.8", "local", "internal", "*",
    "[fe80::1%evil.com]", "[fe80::1%eth0]:11434", "[fe80::1%25evil.local]", "[::1%evil.com]", "x%.local",
)  # fmt: skip
PAGES = ("https://evil.com", "http://localhost.evil.com", "http://127.0.0.1.nip.io", "null", "chrome-extension://x")
LOOPBACK = {"SERVER_NAME": "127.0.0.1"}
METHODS = ("GET", "POST", "DELETE", "OPTIONS", "HEAD")


@pytest.mark.parametrize(("host", "method"), list(itertools.product((*OURS, *STRANGERS), METHODS)))
def test_s1_names(make_client: MakeClient, host: str, method: str) -> None:
    client, engine = make_client()
    found = client.open(
        "/api/delete", method=method, json={"model": "x"}, headers={"Host": host}, environ_overrides=LOOPBACK
    )
    assert (found.status_code == 403) == (host in STRANGERS)
    assert engine.requests == []


def test_s1_a_page_of_another_site_gets_nowhere(world: World) -> None:
    """Every route and method, also with the content types that a page may send without asking first."""
    rules = list(world.client.application.url_map.iter_rules())
    assert len(rules) > 40
    for rule in rules:
        path = re.sub(r"<[^>]+>", "x", rule.rule)
        for method, origin in itertools.product((rule.methods or set()) | {"OPTIONS"}, PAGES):
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json"):
                headers = {"Origin": origin, "Content-Type": kind}
                found = world.client.open(path, method=method, data=b'{"model": "demo"}', headers=headers)
                assert (found.status_code, found.data) == (403, b""), (path, method, origin)
                assert not [name for name, _ in found.headers if name.startswith("Access-Control")]


def test_s1_a_page_of_another_site_does_not_come_in_by_another_header(make_client: MakeClient) -> None:
    """What a proxy would say, and what frameworks believe: a page may set none of these, and they change nothing."""
    client, _ = make_client()
    for name in ("X-Forwarded-Host", "X-Host", "X-Original-Host", "Forwarded", "X-Forwarded-Server"):
        found = client.get("/api/tags", headers={"Host": "evil.com", name: "localhost"}, environ_overrides=LOOPBACK)
        assert found.status_code == 403


TARGET = b"GET %s HTTP/1.1\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (TARGET % b"/api/tags" + b"Host: localhost\r\n\r\n", 200),
        (TARGET % b"/api/tags" + b"\r\n", 400),
        (TARGET % b"/api/tags" + b"Host: \r\n\r\n", 400),
        (TARGET % b"/api/tags" + b"Host: evil.com\r\n\r\n", 403),
        (TARGET % b"http://localhost/api/tags" + b"Host: localhost\r\n\r\n", 200),
        (TARGET % b"http://localhost/api/tags" + b"Host: evil.com\r\n\r\n", 403),
        (TARGET % b"http://evil.com/api/tags" + b"Host: localhost\r\n\r\n", 403),
        (TARGET % b"http://evil.com?/api/tags" + b"Host: localhost\r\n\r\n", 403),
        (TARGET % b"http://localhost@evil.com/api/tags" + b"Host: localhost\r\n\r\n", 403),
        (TARGET % b"//evil.com/api/tags" + b"Host: localhost\r\n\r\n", 404),
        (b"GET /api/tags HTTP/1.0\r\n\r\n", 200),  # no browser speaks this
    ],
)
def test_section_6a_on_the_wire(server: LiveServer, request_: bytes, status: int) -> None:
    assert sent(server, request_) == [status]
