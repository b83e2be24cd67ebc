"""A server behind https with a certificate of its operator's own making."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.stub_server import StubServer

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed: apt-get install openssl"
)
VARIABLE = "REQUESTS_CA_BUNDLE"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The files of one that is made for `localhost`, and of its key."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", folder / "key.pem", "-out", folder / "certificate.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(folder / "certificate.pem"), str(folder / "key.pem")


@pytest.fixture(scope="module")
def port(certificate: tuple[str, str]) -> Iterator[str]:
    with StubServer(certificate) as stub:
        yield stub.url.rpartition(":")[2]


@pytest.fixture
def url(port: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in (VARIABLE, "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    # such a proxy is asked for nothing on this machine
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    return f"https://localhost:{port}"


@pytest.mark.parametrize("variable", [VARIABLE, "CURL_CA_BUNDLE"])
def test_one_that_is_named(
    variable: str, url: str, certificate: tuple[str, str], invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, certificate[0])
    code, out, err = invoke("list", "--url", url)
    assert (code, err) == (0, "")
    assert "hugging-llama/demo" in out


def test_one_that_nobody_knows(url: str, invoke: Invoke) -> None:
    code, out, err = invoke("list", "--url", url)
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: the certificate of {url} is not trusted (self")
    assert err.endswith(f"); set {VARIABLE} to a file with it, or with that of who has signed it\n")


def test_a_name_that_it_is_not_made_for(
    port: str, url: str, certificate: tuple[str, str], invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, certificate[0])
    other = url.replace("localhost", "127.0.0.1")
    assert invoke("list", "--url", other) == (
        1, "", f"Error: the certificate of {other} is made for another name; use the name that it is made for\n"
    )  # fmt: skip


def test_a_file_that_is_not_there(url: str, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.pem"))
    code, _, err = invoke("list", "--url", url)
    assert (code, err.count("\n")) == (1, 1)
    assert str(tmp_path / "none.pem") in err


def test_a_server_without_https(server: StubServer, url: str, invoke: Invoke) -> None:
    url = server.url.replace("http:", "https:")
    code, _, err = invoke("list", "--url", url)
    assert code == 1
    assert err.startswith(f"Error: no secure connection to {url}: ")
    assert err.endswith("; does it speak https at this port?\n")


def test_doctor(url: str, certificate: tuple[str, str], invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def findings() -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.loads(invoke("doctor", "url", "--json", "--url", url)[1])["checks"]
        return found

    (found,) = findings()
    assert found["found"].startswith(f"the certificate of {url} is not trusted (")
    assert found["advice"].startswith(f"set {VARIABLE} to ")
    monkeypatch.setenv(VARIABLE, certificate[0])
    assert findings()[0]["found"].startswith(f"{url} speaks Ollama's API 0.99.1")
