"""The site in front of a real server: streams, callers that leave, reloads under load, uploads, who may see what."""

import contextlib
import hashlib
import http.client
import json
import signal
import socket
import ssl
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from hugging_llama_cli.main import main
from tests.deploy.conftest import Pair
from tests.deploy.nginx_proxy import NAME, UNLIMITED, needs_nginx, nginx
from tests.live_server import LiveServer
from tests.process.servers import is_alive, wait_until

pytestmark = needs_nginx

WAIT_S = 120.0
ENDLESS = 100_000


def story(num_predict: int) -> dict[str, Any]:
    """A request whose answer has this many tokens."""
    options = {"num_predict": num_predict, "min_new_tokens": num_predict}
    return {"model": "demo", "prompt": "Once upon a time", "options": options}


def workers_of(server: LiveServer) -> list[int]:
    """Processes that serve: children of gunicorn's master."""
    return [child.pid for child in psutil.Process(server.process.pid).children()]


def is_whole(lines: list[dict[str, Any]]) -> bool:
    return bool(lines[-1].get("done_reason") in ("stop", "length"))


def first_chunk_s(client: http.client.HTTPConnection, server: LiveServer) -> float:
    """Seconds from the request to the first token of an answer that never ends; then the client leaves."""
    with server.one_cancelled(), contextlib.closing(client):
        started_at = time.monotonic()
        client.request("POST", "/api/generate", json.dumps(story(ENDLESS)))
        with client.getresponse() as response:
            assert json.loads(response.readline())["done"] is False
            return time.monotonic() - started_at


def test_the_first_chunk_of_an_endless_answer_is_hardly_later(pair: Pair) -> None:
    """`python -m benchmarks.nginx_overhead` has the figure. Here a busy machine may do other things for a while."""
    direct, behind = [], []
    for _ in range(3):
        direct.append(first_chunk_s(http.client.HTTPConnection("127.0.0.1", pair.port, timeout=60), pair.server))
        behind.append(first_chunk_s(pair.proxy.connect(), pair.server))
    assert statistics.median(behind) - statistics.median(direct) < 10.0


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_behind_nginx_frees_the_sequence(pair: Pair, stream: bool) -> None:
    with pair.server.one_cancelled():
        client = pair.proxy.connect()
        client.request("POST", "/api/generate", json.dumps({**story(ENDLESS), "stream": stream}))
        if stream:
            response = client.getresponse()
            assert response.readline()
            response.close()
        else:
            wait_until(lambda: pair.server.figure("running") == 1, WAIT_S)
        client.close()


def test_both_workers_serve_from_one_engine(pair: Pair) -> None:
    engine, workers = pair.server.engine().pid, workers_of(pair.server)
    assert len(workers) == 2
    with contextlib.ExitStack() as stack:
        streams = 0
        # whoever of them is quicker takes a caller: the busier one gets slower
        while not all(_has_caller(pid, pair.port) for pid in workers):
            assert streams < 50
            streams += 1
            client = stack.enter_context(contextlib.closing(pair.proxy.connect()))
            client.request("POST", "/api/generate", json.dumps(story(ENDLESS)))
            assert stack.enter_context(client.getresponse()).readline()
        assert pair.server.figure("running") == streams
        assert pair.server.engine().pid == engine
        assert len(pair.proxy.ask("/api/ps").json()["models"]) == 1
    wait_until(lambda: pair.server.figure("running") == 0, WAIT_S)


def _has_caller(pid: int, port: int) -> bool:
    connections = psutil.Process(pid).net_connections("tcp")
    return any(c.laddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in connections)


def test_a_reload_under_load_loses_nothing(pair: Pair) -> None:
    server, proxy = pair.server, pair.proxy
    old = workers_of(server)
    begun, ended = threading.Semaphore(0), threading.Event()

    def ask_for_long() -> list[dict[str, Any]]:
        with contextlib.closing(proxy.connect()) as client:
            client.request("POST", "/api/generate", json.dumps(story(400)))
            with client.getresponse() as response:
                first = response.readline()
                begun.release()
                return [json.loads(line) for line in (first, *response)]

    def ask_again_and_again() -> int:
        count = 0
        while not ended.is_set() or count == 0:
            answer = proxy.ask("/api/generate", story(3))
            assert answer.status == 200, answer.body
            assert is_whole(answer.lines())
            count += 1
        return count

    with ThreadPoolExecutor(12) as pool:
        long = [pool.submit(ask_for_long) for _ in range(8)]
        assert all(begun.acquire(timeout=WAIT_S) for _ in long)
        short = [pool.submit(ask_again_and_again) for _ in range(4)]
        server.process.send_signal(signal.SIGHUP)
        try:
            wait_until(lambda: not any(map(is_alive, old)), 2 * WAIT_S)
        finally:
            ended.set()
        assert all(is_whole(request.result()) for request in long)
        assert all(request.result() > 0 for request in short)
    wait_until(lambda: len(workers_of(server)) == 2, WAIT_S)


def test_a_file_larger_than_any_other_body_is_uploaded(pair: Pair) -> None:
    content = bytes(2**20) * 70
    name = f"/api/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    for source, status in (("127.0.0.7", 201), ("127.0.0.1", 200)):
        with contextlib.closing(pair.proxy.connect(source)) as client:
            client.request("POST", name, content)
            assert client.getresponse().status == status
    # nginx's word for who called is believed
    (line,) = [line for line in pair.audit_log.read_text().splitlines() if "127.0.0.7" in line]
    assert json.loads(line)["outcome"] == "done"


def test_health_is_open_and_in_no_log_and_metrics_are_not(pair: Pair) -> None:
    assert pair.proxy.ask("/health").json()["status"] == "ok"
    assert pair.proxy.ask("/ready").json()["status"] == "ready"
    for path in ("/metrics", "//metrics", "/./metrics", "/%6detrics", "/metrics?x=1", "/health/../metrics"):
        answer = pair.proxy.ask(path)
        assert (answer.status, answer.json()) == (403, {"error": "this is not open to the public"})
    for path in ("/metrics/", "/METRICS", "/%256detrics", "/metrics;x", "/metrics%00", "/hugging-llama-error"):
        # 301: to /metrics
        assert pair.proxy.ask(path).status in (301, 400, 404)
    wait_until(lambda: '"/metrics"' in pair.proxy.log, WAIT_S)
    assert '"/health"' not in pair.proxy.log
    assert '"/ready"' not in pair.proxy.log


def test_the_log_has_the_id_that_the_answer_has(pair: Pair) -> None:
    answer = pair.proxy.ask("/api/version", headers={"Authorization": "Bearer planted-secret"})
    assert answer.status == 200
    wait_until(lambda: answer.headers["X-Request-ID"] in pair.proxy.log, WAIT_S)
    found = [json.loads(line) for line in pair.proxy.log.splitlines()]
    assert [line["path"] for line in found if line["request_id"] == answer.headers["X-Request-ID"]] == ["/api/version"]
    assert "planted-secret" not in pair.proxy.log


def test_pages_of_the_site_itself_may_call_and_others_may_not(pair: Pair) -> None:
    own = pair.proxy.ask("/api/show", {"model": "demo"}, {"Origin": f"https://{NAME}"})
    assert own.status == 200
    assert pair.proxy.ask("/api/show", {"model": "demo"}, {"Origin": "https://evil.example"}).status == 403


def test_plain_http_is_sent_on_with_its_method(pair: Pair) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", pair.proxy.http_port, timeout=60)) as client:
        client.request("POST", "/api/chat?x=1", b"{}", {"Host": NAME})
        response = client.getresponse()
        assert (response.status, response.headers["Location"]) == (308, f"https://{NAME}/api/chat?x=1")


def test_tls_is_of_today_and_for_our_name_only(pair: Pair) -> None:
    assert pair.proxy.ask("/api/version").headers["Strict-Transport-Security"] == "max-age=86400"
    context = ssl.create_default_context(cafile=pair.proxy.certificate)
    address = ("127.0.0.1", pair.proxy.https_port)
    with (
        socket.create_connection(address, timeout=60) as raw,
        context.wrap_socket(raw, server_hostname=NAME) as secure,
    ):
        assert secure.version() == "TLSv1.3"
    context.check_hostname = False
    with socket.create_connection(address, timeout=60) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(raw, server_hostname="evil.example")
    # the name of the handshake, and another one in the request
    with contextlib.closing(pair.proxy.connect()) as client:
        client.request("GET", "/api/tags", headers={"Host": "evil.example"})
        with pytest.raises(ConnectionError):
            client.getresponse()


def test_an_upload_that_is_refused_early_is_told_why(pair: Pair) -> None:
    with contextlib.closing(pair.proxy.connect()) as client:
        client.request("POST", "/api/blobs/sha256:zz", bytes(2**20) * 8)
        response = client.getresponse()
        assert response.status == 400
        assert "digest" in json.loads(response.read())["error"]


def test_doctor_finds_no_fault_with_the_site(
    pair: Pair, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a name that leads to this machine, with the certificate of the operator's own making."""
    with nginx(pair.port, UNLIMITED, name="localhost") as proxy:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.certificate))
        code = main(["doctor", "url", "--json", "--url", f"https://localhost:{proxy.https_port}", "--model", "demo"])
    found = {row["found"]: row["status"] for row in json.loads(capsys.readouterr().out)["checks"]}
    assert (code, set(found.values())) == (0, {"ok"})
    assert any("other names get no answer" in said for said in found)
    assert any("4 MiB gets through" in said for said in found)
    assert any("a stream comes piece by piece" in said for said in found)
