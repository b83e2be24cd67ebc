"""`hugging-llama doctor --url`: a real server, seen directly and through proxies of good and bad manners."""

import contextlib
import json
import math
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hugging_llama_cli.checks.stream_trial import Arrivals, mean_lag
from hugging_llama_cli.main import main
from hugging_llama_config.keys import add_key, new_key
from hugging_llama_config.paths import default_home
from tests.cli.reverse_proxy import Manners, ReverseProxy
from tests.live_server import LiveServer, free_port, live_server, stop

Found = dict[str, str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """With one worker: what is asked is little."""
    folder = tmp_path_factory.mktemp("served")
    with live_server(folder, folder / "hub", workers="1") as server:
        yield server


def examine(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Found]:
    """Exit code, and the statuses by what was found."""
    code = main(["doctor", "url", "--json", *argv])
    out, err = capsys.readouterr()
    assert err == ""
    rows = json.loads(out)["checks"]
    assert all(row["advice"] for row in rows if row["status"] != "ok")
    return code, {row["found"]: row["status"] for row in rows}


def of(found: Found, words: str) -> str:
    """The status of the one finding that has these words."""
    (status,) = [status for said, status in found.items() if words in said]
    return status


def test_a_server_without_a_proxy(served: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = examine(capsys, "--url", served.url)
    assert (code, set(found.values())) == (0, {"ok"})
    assert of(found, "speaks Ollama's API") == "ok"
    assert of(found, "a proxy in front must rewrite Host") == "ok"
    assert of(found, "a request of 4 MiB gets through") == "ok"
    assert of(found, "a stream comes piece by piece") == "ok"


def test_a_proxy_of_good_manners_is_compared_with_the_server_itself(
    served: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with ReverseProxy(served.url, Manners()) as proxy:
        code, found = examine(capsys, "--url", proxy.url, "--direct", served.url, "--model", "demo")
    assert (code, set(found.values())) == (0, {"ok"})
    assert of(found, "through test-proxy") == "ok"
    assert of(found, "requests to any name are answered") == "ok"
    assert of(found, f"from {served.url} itself") == "ok"


def test_a_proxy_that_answers_to_its_own_name_alone(served: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    with ReverseProxy(served.url, Manners(closes_on="doctor.example.com")) as proxy:
        code, found = examine(capsys, "--url", proxy.url)
    assert (code, set(found.values())) == (0, {"ok"})
    assert of(found, "other names get no answer") == "ok"
    assert of(found, "a request of 4 MiB gets through") == "ok"
    assert of(found, "a stream comes piece by piece") == "ok"


@pytest.mark.parametrize(
    ("manners", "said"),
    [
        (Manners(block_bytes=None), "a stream "),
        (Manners(block_bytes=4096), "a stream "),
        (Manners(rewrites_host=False), "the proxy passes Host on"),
        (Manners(max_body_bytes=2**20), "a request of 4 MiB does not get through"),
    ],
    ids=["whole", "blocks", "host", "bodies"],
)
def test_a_proxy_of_bad_manners(
    manners: Manners, said: str, served: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with ReverseProxy(served.url, manners) as proxy:
        code, found = examine(capsys, "--url", proxy.url)
    assert (code, of(found, said)) == (1, "problem")


def test_what_does_not_answer(served: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as silent:  # who connects is refused, and nobody else can have the port
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code, found = examine(capsys, "--url", url)
        assert (code, of(found, f"{url} can't be reached")) == (1, "problem")
        assert not any(said.endswith(('"', ")")) for said in found), "the system's words alone"
        with ReverseProxy(url, Manners()) as proxy:
            code, found = examine(capsys, "--url", proxy.url)
        assert (code, set(found.values())) == (1, {"problem"})
    code, found = examine(capsys, "--url", f"{served.url}/docs")
    assert (code, of(found, "/docs/api/version answers 404")) == (1, "problem")
    code, found = examine(capsys, "--url", served.url, "--model", "no/such")
    assert (code, of(found, "/api/generate answers 404")) == (1, "problem")


@pytest.mark.parametrize(
    ("arrivals", "flows", "is_held"),
    [
        (Arrivals(128, 1, 1.5, 1.5), False, True),
        (Arrivals(128, 5, 0.3, 1.5), False, False),
        (Arrivals(40, 32, 0.1, 0.2), True, False),
        (Arrivals(128, 31, 0.1, 0.5), False, False),
        (Arrivals(3, 3, 0.1, 0.2), True, False),
        (Arrivals(128, 20, 0.1, 2.0, 0.03), True, False),
        (Arrivals(128, 20, 0.1, 2.0, 0.1), False, False),
    ],
)
def test_how_arrivals_are_judged(arrivals: Arrivals, *, flows: bool, is_held: bool) -> None:
    assert (arrivals.flows, arrivals.is_held and not arrivals.flows) == (flows, is_held)


def test_how_late_lines_are_by_the_stamps_of_the_server() -> None:
    made = [5000 + 0.01 * i for i in range(128)]
    came = [0.3 + 0.01 * i for i in range(128)]
    assert mean_lag(list(zip(made, came, strict=True))) < 0.001
    assert mean_lag([(at, 1.6) for at in made]) > 0.4
    assert mean_lag([(at, came[min(127, i // 27 * 27 + 26)]) for i, at in enumerate(made)]) > 0.08
    paused = [(at + 100 * (i >= 50), came[min(127, i // 27 * 27 + 26)] + 100 * (i >= 27)) for i, at in enumerate(made)]
    assert mean_lag(paused) > 0.08, "a pause between two lines hides no buffer"
    assert math.isinf(mean_lag([]))


NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{good}; client_max_body_size 0;
    location / {{ proxy_pass {url}; proxy_http_version 1.1; proxy_buffering off; }}
  }}
  server {{ listen 127.0.0.1:{strict} default_server; return 444; }}
  server {{
    listen 127.0.0.1:{strict}; server_name 127.0.0.1; client_max_body_size 0;
    location / {{ proxy_pass {url}; proxy_http_version 1.1; proxy_buffering off; }}
  }}
  server {{
    listen 127.0.0.1:{bad};
    location / {{
      proxy_pass {url}; proxy_set_header Host $http_host;
      proxy_ignore_headers X-Accel-Buffering; proxy_buffers 8 64k; proxy_buffer_size 64k;
    }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(url: str, folder: Path) -> Iterator[tuple[str, str, str]]:
    """The URLs of a server that is set up well, of one that closes on other names, as `deploy/nginx` does, and of one
    with nginx's defaults and a Host that is passed on."""
    good, strict, bad = free_port(), free_port(), free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, good=good, strict=strict, bad=bad, url=url))
    command = [shutil.which("nginx") or "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "pid").exists():  # written once it listens
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"http://127.0.0.1:{good}", f"http://127.0.0.1:{strict}", f"http://127.0.0.1:{bad}"
    finally:
        stop(process)


@pytest.mark.skipif(shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="no nginx here")
def test_nginx(served: LiveServer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with nginx(served.url, tmp_path) as (good, strict, bad):
        code, found = examine(capsys, "--url", good)
        assert (code, set(found.values())) == (0, {"ok"})
        assert of(found, "through nginx/") == "ok"
        code, found = examine(capsys, "--url", strict)
        assert (code, set(found.values())) == (0, {"ok"})
        assert of(found, "other names get no answer") == "ok"
        code, found = examine(capsys, "--url", bad)
        assert code == 1
        for said in ("the proxy passes Host on", "4 MiB does not get through", "a stream "):
            assert of(found, said) == "problem"


def test_a_server_that_asks_for_keys(
    served: LiveServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of these tests: once a server has had keys it goes on to ask for them."""
    key, secret = new_key("doctor", roles=("use",))
    add_key(str(default_home(served.environ) / "keys.json"), key)
    code, found = examine(capsys, "--url", served.url)
    assert (code, of(found, "/api/ps answers 401")) == (1, "problem")
    monkeypatch.setenv("HUGGING_LLAMA_API_KEY", secret)
    found = examine(capsys, "--url", served.url)[1]
    assert of(found, "a request of 4 MiB gets through") == "ok"
    assert of(found, " pieces of a stream came in ")
