"""A real nginx over `deploy/nginx/` as it is written: only addresses and what a test asks for are exchanged."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.live_server import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = "llama.example.org"
# Debian keeps it where only root's PATH looks
PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
DOCKER = ("server", "upstream")
UNLIMITED = {"rate=20r/s": "rate=100000r/s"}
"""For tests that ask as fast as their machine can."""
START_TIMEOUT_S = 30.0
TIMEOUT_S = 60.0
needs_nginx = pytest.mark.skipif(
    PROGRAM is None or shutil.which("openssl") is None,
    reason="nginx or openssl is not installed: apt-get install nginx-light openssl",
)
# what stands around a site on Debian
_MAIN = """
daemon off;
worker_processes 2;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running nginx; `certificate` is what its clients must trust."""

    https_port: int
    http_port: int
    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "fullchain.pem"

    def connect(self, source: str = "127.0.0.1") -> http.client.HTTPConnection:
        """A connection over TLS with the name checked; `source` is the client's own address."""
        raw = socket.create_connection(("127.0.0.1", self.https_port), timeout=TIMEOUT_S, source_address=(source, 0))
        # as http.client does where it connects itself: it sends head and body apart
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = http.client.HTTPConnection(NAME, timeout=TIMEOUT_S)
        connection.sock = ssl.create_default_context(cafile=self.certificate).wrap_socket(raw, server_hostname=NAME)
        return connection

    def ask(self, path: str, body: object = None, headers: Mapping[str, str] = {}) -> Answer:
        """GET, or POST of a body."""
        with contextlib.closing(self.connect()) as connection:
            data = None if body is None else json.dumps(body).encode()
            connection.request("GET" if data is None else "POST", path, data, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    @property
    def log(self) -> str:
        return (self.folder / "access.log").read_text()

    @property
    def error_log(self) -> str:
        return (self.folder / "error.log").read_text()


@contextmanager
def nginx(
    upstream_port: int, changes: Mapping[str, str] = {}, *, docker: bool = False, name: str = NAME
) -> Iterator[Proxy]:
    """nginx in front of 127.0.0.1:`upstream_port` until the block ends; `changes` are texts of the site to exchange.

    `docker`: with the snippets that the compose file puts in the place of two. `name`: what the site is called.
    """
    assert PROGRAM
    with tempfile.TemporaryDirectory(prefix="hl-nginx-") as folder:
        proxy = Proxy(free_port(), free_port(), Path(folder))
        _write_site(proxy, upstream_port, {NAME: name, **changes}, docker)
        _make_certificate(proxy.folder, name)
        user = "user root;" if os.geteuid() == 0 else ""
        (proxy.folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))
        process = subprocess.Popen(
            [PROGRAM, "-p", folder, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            _wait_until_open(process, proxy)
            yield proxy
        except BaseException:
            print(proxy.error_log[-6000:])
            raise
        finally:
            process.terminate()
            process.communicate(timeout=30)


def _write_site(proxy: Proxy, upstream_port: int, changes: Mapping[str, str], docker: bool) -> None:
    """The site and its snippets, with the addresses of this test."""
    snippets = proxy.folder / "snippets"
    snippets.mkdir()
    addresses = {
        "listen 443 ": f"listen 127.0.0.1:{proxy.https_port} ",
        "listen 80;": f"listen 127.0.0.1:{proxy.http_port};",
        "/etc/ssl/hugging-llama/": f"{proxy.folder}/",
        "/dev/stdout" if docker else "/var/log/nginx/hugging-llama.log": f"{proxy.folder}/access.log",
        "server server:11434 " if docker else "server 127.0.0.1:11434 ": f"server 127.0.0.1:{upstream_port} ",
    }
    files = {"site.conf": DEPLOY / "nginx" / "hugging-llama.conf"}
    files |= {f"snippets/{path.name}": path for path in (DEPLOY / "nginx" / "snippets").glob("*.conf")}
    if docker:
        files |= {f"snippets/hugging-llama-{name}.conf": DEPLOY / "docker" / f"nginx-{name}.conf" for name in DOCKER}
    texts = {name: path.read_text() for name, path in files.items()}
    for old, new in {**addresses, **changes}.items():
        assert any(old in text for text in texts.values()), f"the site does not say {old!r}"
        texts = {name: text.replace(old, new) for name, text in texts.items()}
    for name, text in texts.items():
        # a machine of the tests need not have IPv6
        (proxy.folder / name).write_text(re.sub(r"\n *listen \[::\].*", "", text))


def _make_certificate(folder: Path, name: str) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem", "-subj", f"/CN={name}",
         "-addext", f"subjectAltName=DNS:{name}"],
        check=True, capture_output=True,
    )  # fmt: skip


def _wait_until_open(process: subprocess.Popen[str], proxy: Proxy) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", proxy.https_port)) == 0:
                return
        time.sleep(0.02)
    process.terminate()
    raise AssertionError(f"nginx did not start: {process.communicate()[1]}")
