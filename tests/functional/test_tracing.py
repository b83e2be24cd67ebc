"""Traces as a collector gets them: the real exporter, over HTTP, to a socket that reads OTLP."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any

import pytest
from flask.testing import FlaskClient

from hugging_llama.errors import GenerationError
from hugging_llama.neutral.events import Finished, FinishReason, TextDelta, Usage
from hugging_llama_config.env import ConfigError
from tests.functional.conftest import MakeClient

DEMO = "hugging-llama/demo"
FULL = "hugging-llama/demo:latest"
BODY = {"model": DEMO, "prompt": "x"}
THEIRS = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
MS = 1_000_000
USAGE = Usage(
    num_prompt_tokens=7, num_cached_tokens=4, num_output_tokens=2,
    load_ns=5 * MS, queue_ns=2 * MS, prompt_ns=3 * MS, decode_ns=4 * MS,
)  # fmt: skip
ANSWER = [TextDelta("Hi"), TextDelta(" you"), Finished(reason=FinishReason.STOP, usage=USAGE)]


@dataclass(slots=True)
class Collector:
    """What has come, as spans of OTLP by their name."""

    url: str
    spans: list[Any] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def take(self, body: bytes) -> None:
        service = import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
        for batch in service.ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {a.value.string_value for a in batch.resource.attributes if a.key == "service.name"}
            self.spans.extend(span for scope in batch.scope_spans for span in scope.spans)

    def named(self, name: str) -> Any:
        (found,) = [span for span in self.spans if span.name == name]
        return found


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            received.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received = Collector(f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield received
        server.shutdown()
        thread.join()


def flush(client: FlaskClient) -> None:
    """Send what has ended, as the end of the process does."""
    tracer = client.application.extensions["hugging_llama_tracer"]
    tracer.close()


def test_a_key_that_stands_in_a_request_id_is_not_told(make_client: MakeClient, collector: Collector) -> None:
    client, _ = make_client(tracing=True)
    key = "hl-" + "k" * 32
    assert client.get("/api/version", headers={"X-Request-ID": f"of-{key}"}).status_code == 200
    flush(client)
    told = attributes(collector.named("GET /api/version"))
    assert told["hugging_llama.request_id"] == "of-hl-***"


def test_a_request_is_one_trace_down_to_the_steps_of_the_engine(make_client: MakeClient, collector: Collector) -> None:
    client, _ = make_client(generate=ANSWER, tracing=True)
    headers = {"traceparent": f"00-{THEIRS}-{PARENT}-01", "X-Request-ID": "mine"}
    with client.post("/api/generate", json=BODY, headers=headers) as response:
        assert response.get_data().count(b"\n") == 3
    flush(client)
    assert collector.services == {"hugging-llama"}
    assert {span.trace_id.hex() for span in collector.spans} == {THEIRS}
    root = collector.named("POST /api/generate")
    assert root.parent_span_id.hex() == PARENT
    assert response.headers["traceresponse"] == f"00-{THEIRS}-{root.span_id.hex()}-01"
    answer = collector.named("generate")
    assert answer.parent_span_id == root.span_id
    assert root.start_time_unix_nano <= answer.start_time_unix_nano <= answer.end_time_unix_nano
    steps = [collector.named(name) for name in ("load", "queue", "prefill", "decode")]
    assert [(s.end_time_unix_nano - s.start_time_unix_nano) // MS for s in steps] == [5, 2, 3, 4]
    assert all(step.parent_span_id == answer.span_id for step in steps)
    assert [s.start_time_unix_nano for s in steps[1:]] == [s.end_time_unix_nano for s in steps[:-1]]
    told = attributes(root)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (7, 2)
    assert (told["http.response.status_code"], told["hugging_llama.request_id"]) == (200, "mine")
    assert told["gen_ai.request.model"] == FULL
    assert "x" not in told.values(), "what was said is no part of it"


def test_without_a_caller_a_trace_begins_here(make_client: MakeClient, collector: Collector) -> None:
    client, _ = make_client(generate=ANSWER, tracing=True)
    for path in ("/health", "/ready", "/metrics"):
        assert "traceresponse" not in client.get(path).headers, "who watches is not watched"
    response = client.post("/api/generate", json=BODY | {"stream": False}, headers={"traceparent": "nonsense"})
    flush(client)
    assert {span.name for span in collector.spans if span.parent_span_id == b""} == {"POST /api/generate"}
    root = collector.named("POST /api/generate")
    assert response.headers["traceresponse"].split("-")[1] == root.trace_id.hex() != THEIRS


def test_an_error_inside_a_stream_is_one_of_the_trace(make_client: MakeClient, collector: Collector) -> None:
    client, _ = make_client(generate=[TextDelta("Hi"), GenerationError("oops")], tracing=True)
    with client.post("/api/generate", json=BODY) as response:
        assert b"oops" in response.get_data()
    missing = client.post("/api/generate", json=BODY | {"model": "no/such"})
    assert missing.status_code == 404
    flush(client)
    broken, refused = [span for span in collector.spans if span.name == "POST /api/generate"]
    assert (broken.status.code, broken.status.message) == (2, "generation")
    assert attributes(refused)["error.type"] == "model_not_found"
    assert refused.status.code == 0, "the caller's error is not the server's"


def test_a_trace_that_its_caller_does_not_sample_is_not_sent(make_client: MakeClient, collector: Collector) -> None:
    client, _ = make_client(generate=ANSWER, tracing=True)
    client.post("/api/generate", json=BODY | {"stream": False}, headers={"traceparent": f"00-{THEIRS}-{PARENT}-00"})
    flush(client)
    assert collector.spans == []


OFF = """
import sys
from hugging_llama import create_app
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import load_settings
client = create_app(load_settings(environ={"HOME": sys.argv[1]}), engine=ScriptedEngine()).test_client()
answer = client.post("/api/generate", json={"model": "demo", "prompt": "x", "stream": False})
assert answer.status_code == 200
assert "traceresponse" not in answer.headers
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_turned_off_nothing_of_it_is_imported(tmp_path: Any) -> None:
    command = [sys.executable, "-c", OFF, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_without_the_packages_the_start_says_what_to_do(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    monkeypatch.delitem(sys.modules, "hugging_llama.web.tracing", raising=False)
    with pytest.raises(ConfigError, match=r"HUGGING_LLAMA_TRACING: .* is not installed: pip install"):
        make_client(tracing=True)
