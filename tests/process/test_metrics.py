"""A scripted load on a real server with two workers: /metrics must say what we have counted ourselves, to the last."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import dropwhile
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import requests

from hugging_llama_config.keys import add_key, new_key
from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files
from tests.hub_server import Repo, StandInHub
from tests.live_server import LiveServer, live_server
from tests.process.servers import wait_until
from tests.scrape import Scrape, documented, served, settled
from tests.store import models

DEMO = "hugging-llama/demo"
FULL = "hugging-llama/demo:latest"
LONG = "Tell me of the sea, of ships and of sailors, and of the land behind it. " * 4
HI = [{"role": "user", "content": "Hi"}]
PATIENCE_S = 120.0


@dataclass(slots=True)
class Own:
    """What we have counted ourselves, as the figures that it should be."""

    figures: dict[str, Counter[tuple[str, ...]]] = field(default_factory=dict)

    def add(self, name: str, *labels: str, by: float = 1) -> None:
        if by:
            self.figures.setdefault(name, Counter())[labels] += by  # type: ignore[assignment]

    def request(self, path: str, status: int, model: str = FULL, code: str = "") -> None:
        self.add("requests_total", path, str(status))
        self.add("request_seconds_count", path, model)
        self.add("key_requests_total", "load")
        if code:
            self.add("errors_total", path, code)

    def answer(self, path: str, read: int, written: int, outcome: str, model: str = FULL) -> None:
        """An answer of a model that writes, which is read to its end."""
        self.add("generations_total", path, outcome)
        for name in ("generation_seconds_count", "queue_seconds_count", "time_to_first_token_seconds_count"):
            self.add(name, path, model)
        self.tokens(path, read, written, model)

    def tokens(self, path: str, read: int, written: int, model: str) -> None:
        self.add("prompt_tokens_total", path, model, by=read)
        self.add("output_tokens_total", path, model, by=written)
        self.add("key_prompt_tokens_total", "load", by=read)
        self.add("key_output_tokens_total", "load", by=written)


LABELS = {
    "requests_total": ("endpoint", "status"),
    "errors_total": ("endpoint", "code"),
    "generations_total": ("endpoint", "outcome"),
    "pulls_total": ("outcome",),
    "pulled_bytes_total": (),
    "key_requests_total": ("key",),
    "key_prompt_tokens_total": ("key",),
    "key_output_tokens_total": ("key",),
}
PAIR = ("endpoint", "model")
EXACT = (
    *LABELS, "request_seconds_count", "generation_seconds_count", "queue_seconds_count",
    "time_to_first_token_seconds_count", "prompt_tokens_total", "output_tokens_total",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Load:
    """Sends requests with the key `load`, and counts them."""

    server: LiveServer
    secrets: dict[str, str]
    own: Own

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets[key]}"}

    def scrape(self) -> Scrape:
        answer = requests.get(f"{self.server.url}/metrics", headers=self.headers("prometheus"), timeout=60)
        return Scrape.of(answer.text)

    def figure(self, name: str) -> float:
        """-1 while a process that is being replaced gives no answer."""
        try:
            return self.scrape().get(name)
        except requests.RequestException:
            return -1.0

    def settled(self) -> Scrape:
        found: list[Scrape] = []

        def look() -> bool:
            now = settled(self.scrape)
            found.extend([now] if now else [])
            return now is not None

        wait_until(look, PATIENCE_S)
        return found[-1]

    def post(self, path: str, body: Any) -> requests.Response:
        return requests.post(self.server.url + path, json=body, headers=self.headers("load"), timeout=PATIENCE_S)

    def one_of_each(self) -> None:
        self.generate()
        self.chat()
        self.openai()
        self.others()
        self.pooled()
        self.errors()

    def generate(self) -> None:
        path, options = "/api/generate", {"num_predict": 6}
        text = self.post(path, {"model": "demo", "prompt": "Hello", "options": options}).text
        lines = [json.loads(line) for line in text.splitlines()]
        last = lines[-1]
        self.own.request(path, 200)
        self.own.answer(path, last["prompt_eval_count"], last["eval_count"], last["done_reason"])
        self.own.add("inter_token_seconds_count", path, FULL, by=len(lines) - 2)

    def chat(self) -> None:
        path = "/api/chat"
        body = {"model": DEMO, "messages": HI, "stream": False, "options": {"num_predict": 5}}
        last = self.post(path, body).json()
        self.own.request(path, 200)
        self.own.answer(path, last["prompt_eval_count"], last["eval_count"], last["done_reason"])

    def openai(self) -> None:
        path = "/v1/chat/completions"
        body = {"model": DEMO, "messages": HI, "n": 2, "max_tokens": 4, "stream": True}
        text = self.post(path, body | {"stream_options": {"include_usage": True}}).text
        chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        usage = next(chunk["usage"] for chunk in chunks if chunk.get("usage"))
        ends = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
        assert len(ends) == 2
        self.own.request(path, 200)
        for number, end in enumerate(ends):
            # the prompt is told once for both
            written = usage["completion_tokens"] if number == 0 else 0
            read = usage["prompt_tokens"] if number == 0 else 0
            self.own.answer(path, read, written, end)

    def others(self) -> None:
        for path, body, counts in (
            ("/v1/completions", {"prompt": LONG, "max_tokens": 3}, ("prompt_tokens", "completion_tokens")),
            ("/v1/messages", {"messages": HI, "max_tokens": 3}, ("input_tokens", "output_tokens")),
            ("/v1/responses", {"input": "Hi", "max_output_tokens": 16}, ("input_tokens", "output_tokens")),
        ):
            answer = self.post(path, {"model": DEMO, **body}).json()
            usage = answer["usage"]
            assert usage["input_tokens"] if path != "/v1/completions" else usage["prompt_tokens"], answer
            is_cut = {"max_tokens", "length"} & {answer.get("stop_reason"), *self.reasons(answer)}
            self.own.request(path, 200)
            cached = self.cached(usage)
            # what Anthropic's clients read as input is what was not cached
            read = usage[counts[0]] + (cached if path == "/v1/messages" else 0)
            self.own.add("cached_tokens_total", path, FULL, by=cached)
            self.own.add("prefix_hits_total", path, FULL, by=cached > 0)
            self.own.answer(path, read, usage[counts[1]], "length" if is_cut else "stop")

    def cached(self, usage: dict[str, Any]) -> int:
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
        return int(details.get("cached_tokens", usage.get("cache_read_input_tokens", 0)))

    def reasons(self, answer: dict[str, Any]) -> list[str]:
        incomplete = "length" if answer.get("status") == "incomplete" else ""
        return [incomplete, *(choice["finish_reason"] for choice in answer.get("choices", []))]

    def pooled(self) -> None:
        answer = self.post("/api/embed", {"model": MINILM, "input": ["one", "two"]}).json()
        full = f"{MINILM}:latest"
        self.own.request("/api/embed", 200, full)
        self.own.tokens("/api/embed", answer["prompt_eval_count"], 0, full)
        assert self.post("/api/show", {"model": DEMO}).ok
        self.own.request("/api/show", 200)
        assert self.post("/api/copy", {"source": DEMO, "destination": "mine"}).ok
        self.own.request("/api/copy", 200, "")

    def errors(self) -> None:
        assert self.post("/api/chat", {"model": "no/such", "messages": HI}).status_code == 404
        self.own.request("/api/chat", 404, "", "model_not_found")
        assert self.post("/v1/chat/completions", {"model": DEMO, "messages": 3}).status_code == 400
        self.own.request("/v1/chat/completions", 400, "", "invalid_request")
        assert self.post("/api/embed", {"model": DEMO, "input": "x"}).status_code == 400
        self.own.request("/api/embed", 400, FULL, "unsupported_capability")
        assert self.post("/no/such/path", {}).status_code == 404
        for name in ("requests_total", "request_seconds_count", "errors_total"):
            self.own.add(name, "unknown", {"requests_total": "404", "errors_total": "http_404"}.get(name, ""))
        wrong = requests.post(f"{self.server.url}/api/chat", json={}, headers={"x-api-key": "wrong"}, timeout=60)
        assert wrong.status_code == 401
        self.own.request("/api/chat", 401, "", "key_rejected")
        self.own.add("key_requests_total", "load", by=-1)
        refused = requests.get(f"{self.server.url}/metrics", headers=self.headers("load"), timeout=60)
        assert refused.status_code == 403
        self.own.request("/metrics", 403, "", "forbidden")

    def leave(self) -> None:
        """A stream that its caller does not read to its end."""
        body = {"model": "endless", "prompt": "Count."}
        with self.server_stream("/api/generate", body) as answer:
            assert next(answer.iter_lines())
        self.own.request("/api/generate", 200, "endless:latest")
        self.own.add("generations_total", "/api/generate", "left")
        for name in ("generation_seconds_count", "time_to_first_token_seconds_count"):
            self.own.add(name, "/api/generate", "endless:latest")

    @contextlib.contextmanager
    def server_stream(self, path: str, body: Any) -> Iterator[requests.Response]:
        with requests.post(
            self.server.url + path, json=body, headers=self.headers("load"), stream=True, timeout=60
        ) as answer:
            yield answer

    def pull(self) -> None:
        assert '"success"' in self.post("/api/pull", {"model": "acme/tiny"}).text
        self.own.request("/api/pull", 200, "")
        self.own.add("pulls_total", "done")
        blobs = Path(self.server.environ["HF_HUB_CACHE"], "models--acme--tiny", "blobs")
        self.own.add("pulled_bytes_total", by=sum(path.stat().st_size for path in blobs.iterdir()))
        assert "error" in self.post("/api/pull", {"model": "acme/missing"}).text
        self.own.request("/api/pull", 200, "", "model_not_found")
        self.own.add("pulls_total", "model_not_found")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    folder = tmp_path_factory.mktemp("metrics")
    add_to_hub_cache(folder / "hub", MINILM, minilm_files())
    secrets = {}
    for name, roles in (("load", ("use", "manage")), ("prometheus", ("metrics",))):
        key, secrets[name] = new_key(name, roles=roles)
        add_key(str(folder / "keys.json"), key)
    with StandInHub() as hub:
        hub.repos["acme/tiny"] = Repo(models.chat_model(300_000))
        settings = {"hub_endpoint": hub.endpoint, "keys_file": str(folder / "keys.json"), "log_format": "json"}
        with live_server(folder, folder / "hub", **settings) as server:
            load = Load(server, secrets, Own())
            made = {"model": "endless", "from": DEMO, "parameters": {"min_new_tokens": 100000, "num_predict": -1}}
            assert load.post("/api/create", {**made, "stream": False}).ok
            # both workers count and both models are loaded before the first look
            wait_until(lambda: load.scrape().get("workers_started_total") == 2, PATIENCE_S)
            yield load


@pytest.fixture
def before(load: Load) -> Scrape:
    load.own.figures.clear()
    return load.settled()


def test_a_scripted_load_is_counted_to_the_last_one(load: Load, before: Scrape) -> None:
    for _ in range(2):
        load.one_of_each()
        load.leave()
    load.pull()
    after = load.settled()
    for name in EXACT:
        labels = LABELS.get(name, PAIR)
        gained = after.gained(before, name, *labels)
        # our own looks are no part of the load
        gained = {key: value for key, value in gained.items() if key not in (("/metrics", "200"), ("prometheus",))}
        if name == "request_seconds_count":
            gained["/metrics", ""] = gained.get(("/metrics", ""), 0) - load_looks(after, before)
        assert gained == dict(load.own.figures.get(name, {})), name
    # what not every answer tells is compared where it is told
    for name in ("inter_token_seconds_count", "cached_tokens_total", "prefix_hits_total"):
        own = load.own.figures[name]
        assert {key: value for key, value in after.gained(before, name, *PAIR).items() if key in own} == own
    assert after.get("engine_output_tokens_total") > after.get("output_tokens_total")  # of those who left, too
    assert load.own.figures["prefix_hits_total"]
    assert after.get("requests_in_progress") == 1


def load_looks(after: Scrape, before: Scrape) -> float:
    return after.gained(before, "requests_total", "endpoint", "status").get(("/metrics", "200"), 0)


def test_the_table_of_the_documents_is_what_is_served(load: Load) -> None:
    text = load.settled().text
    told, found = documented(), served(text)
    assert found | {"hugging_llama_pushes_total": told["hugging_llama_pushes_total"]} == told  # nothing was pushed


def test_prometheus_finds_no_fault_with_what_is_served(load: Load) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here (Debian: apt-get install prometheus)")
    text = load.settled().text
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_request_is_a_line_of_json(load: Load) -> None:
    body = {"model": "demo", "prompt": "Hello", "options": {"num_predict": 6}, "stream": False}
    headers = load.headers("load") | {"X-Request-ID": "find-me"}
    answer = requests.post(f"{load.server.url}/api/generate", json=body, headers=headers, timeout=PATIENCE_S).json()
    wait_until(lambda: bool(lines_of(load.server.log, request_id="find-me")), PATIENCE_S)
    (line,) = lines_of(load.server.log, request_id="find-me")
    told = {name: line[name] for name in ("path", "status", "model", "prompt_tokens", "output_tokens", "level")}
    assert told == {
        "path": "/api/generate", "status": 200, "model": FULL, "level": "info",
        "prompt_tokens": answer["prompt_eval_count"], "output_tokens": answer["eval_count"],
    }  # fmt: skip
    assert line["duration_s"] >= line["first_token_s"] > 0
    assert len(line["key_id"]) == 8
    assert load.secrets["load"] not in load.server.log.read_text()


def lines_of(log: Path, **fields: str) -> list[dict[str, Any]]:
    """Those that are whole and have these fields. What the command line says before the server begins is for people."""
    lines = dropwhile(lambda line: not line.startswith("{"), log.read_text().splitlines(keepends=True))
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [line for line in found if fields.items() <= line.items()]


def test_levels_change_in_all_processes_while_they_run(load: Load) -> None:
    file = Path(load.server.environ["HUGGING_LLAMA_RUN_DIR"], "log-levels")
    file.write_text("access=error\n")

    def told() -> bool:
        lines = lines_of(load.server.log, message="log levels: access=error")
        return {line["process"] for line in lines} >= {"web", "engine"}

    wait_until(told, PATIENCE_S)
    file.unlink()


@pytest.mark.slow
def test_counters_go_on_when_processes_are_replaced(load: Load) -> None:
    load.generate()
    first = load.settled()
    master = psutil.Process(load.server.process.pid)
    old = {child.pid for child in master.children()}
    os.kill(next(iter(old)), signal.SIGKILL)
    wait_until(lambda: load.figure("workers_started_total") == first.get("workers_started_total") + 1, PATIENCE_S)
    master.send_signal(signal.SIGHUP)
    wait_until(lambda: not old & {child.pid for child in master.children()}, PATIENCE_S)
    load.server.engine().kill()
    wait_until(lambda: load.figure("engine_starts_total") == 2, PATIENCE_S)
    load.generate()
    assert_grown(first, load.settled())


def assert_grown(first: Scrape, last: Scrape) -> None:
    counted = [
        (name, labels)
        for name, labels in first.series
        if name.endswith(("_total", "_bucket", "_count")) and not name.startswith("flask_")
    ]
    assert len(counted) > 100
    for series in counted:
        assert last.series.get(series, -1.0) >= first.series[series], series
    for name in ("output_tokens_total", "engine_output_tokens_total", "engine_load_seconds_count"):
        assert last.get(name) > first.get(name), name


@pytest.mark.slow
def test_a_folder_that_was_deleted_is_named_and_made_anew(tmp_path: Path) -> None:
    with live_server(tmp_path, tmp_path / "hub") as server:
        run_dir = Path(server.environ["HUGGING_LLAMA_RUN_DIR"])
        for folder in run_dir.glob("metrics-*"):
            shutil.rmtree(folder)
        answer = requests.get(f"{server.url}/metrics", timeout=60)
        assert answer.status_code == 500
        assert "figures was deleted; a reload of the server (HUP)" in answer.text
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: requests.get(f"{server.url}/metrics", timeout=60).status_code == 200)
