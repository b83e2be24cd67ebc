"""What is said to a model, and every secret, stays out of the logs of web workers, engine and supervisor."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.functional.field_probes import ENDPOINTS
from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files
from tests.live_server import LiveServer, live_server, wait_until_ready
from tests.secrets_in_logs import PLANTED, check_no_secrets

SAID = "zymurgic quokka vespers"
"""Words that come in no message of ours; in prompts, documents, schemas, templates, tools."""
KEY = f"sk-{PLANTED}-key"
HEADERS = {"Authorization": f"Bearer hf_{PLANTED}-bearer", "X-API-Key": KEY, "X-HF-Token": f"hf_{PLANTED}-token"}
# endpoints with a model that is not on this server ask the Hub, others change what is here
NOT_SAID_TO_A_MODEL = {"/api/pull", "/api/push", "/api/copy", "/api/delete", "/api/show"}
ABSENT = {"acme/reranker", "filler"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("live")
    cache = folder / "hub"
    add_to_hub_cache(cache, MINILM, minilm_files())
    with live_server(
        folder, cache, hub_endpoint="http://127.0.0.1:9", hub_token=f"hf_{PLANTED}-of-the-server", log_level="info"
    ) as running:
        yield running


def _words(value: Any) -> Any:
    """The same value with every text in it replaced."""
    if isinstance(value, dict):
        return {key: item if key in ("role", "type") else _words(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_words(item) for item in value]
    return SAID if isinstance(value, str) else value


TEXTS = {"prompt", "messages", "input", "system", "suffix", "content", "query", "documents", "tools", "instructions"}


def _bodies(base: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Good ones, and bad ones in many ways: an error must not repeat what it is about in a log either."""
    short: dict[str, Any] = {"stream": False, "max_tokens": 2, "options": {"num_predict": 2}}
    good = {**base, **short, **{key: _words(value) for key, value in base.items() if key in TEXTS}}
    yield good
    yield {**good, "stream": True}
    for name in fields:
        yield {**good, name: SAID}
        yield {**good, name: {SAID: SAID, "type": SAID}}
        yield {**good, name: [{"role": "user", "content": SAID, "type": "function", "function": {"name": SAID}}]}
    schema = {"type": "object", "properties": {SAID: {"type": "string", "pattern": f"({SAID}"}}}
    yield {**good, "format": schema}
    yield {**good, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    for template in (f"{SAID} {{% for %}}", f"{{{{ raise_exception('{SAID}') }}}}", f"{{{{ '{SAID}'.x.y }}}}"):
        yield {**good, "template": template}
    yield {**good, "options": {SAID: 1, "stop": [SAID], "num_ctx": 1, "num_predict": 2}}


def test_what_is_said_is_in_no_log(live: LiveServer) -> None:
    asked = 0
    for endpoint in ENDPOINTS:
        if endpoint.path in NOT_SAID_TO_A_MODEL:
            continue
        for body in _bodies(endpoint.base, endpoint.fields):
            if body.get("from") == SAID or body.get("model") in list(ABSENT):
                continue
            response = requests.request(
                endpoint.method, live.url + endpoint.path, json=body, headers=HEADERS, timeout=60
            )
            response.content  # noqa: B018  a stream is read to its end
            asked += 1
    for path in ("/api/chat", "/v1/chat/completions", "/v1/messages"):
        for data in (f'{{"model": "demo", "prompt": "{SAID}', f"{SAID}", f'{{"model": "{SAID}"}}'):
            requests.post(live.url + path, data=data, headers=HEADERS, timeout=60)
    assert asked > 200
    text = live.log.read_text()
    assert "is loaded" in text  # the engine's log at INFO is what is looked at
    for word in SAID.split():
        assert word not in text, [line for line in text.splitlines() if word in line][:3]


def test_an_engine_that_dies_says_nothing_of_what_it_did(live: LiveServer) -> None:
    body = {"model": "demo", "prompt": SAID, "options": {"num_predict": 100_000, "min_new_tokens": 100_000}}
    with requests.post(f"{live.url}/api/generate", json=body, headers=HEADERS, stream=True, timeout=60) as response:
        lines = response.iter_lines(chunk_size=1)
        next(lines)
        live.engine().kill()
        assert "error" in json.loads(list(lines)[-1])
    wait_until_ready(live)
    assert "quokka" not in live.log.read_text()


def test_secrets_are_in_no_log(live: LiveServer) -> None:
    """In every place where a client might send one, and with every outcome."""
    for path in ("/api/push", "/api/pull", "/api/chat", "/v1/chat/completions", "/v1/messages", "/nowhere", "/api/me"):
        for body in ({"model": "demo"}, {"model": "me/mine"}, {"model": 5}, {"model": "acme/none", "stream": False}):
            requests.post(live.url + path, json=body, headers=HEADERS, timeout=60)
        requests.post(live.url + path, data=b"{", headers=HEADERS, timeout=60)
        requests.get(live.url + path, headers={**HEADERS, "Origin": "http://evil.com"}, timeout=60)
        requests.get(live.url + path, headers={**HEADERS, "Cookie": f"session={PLANTED}"}, timeout=60)
        requests.get(f"{live.url}{path}?key={PLANTED}&token={PLANTED}", headers=HEADERS, timeout=60)
    check_no_secrets(live.log)


def test_secrets_are_in_no_process_beside_the_web(live: LiveServer) -> None:
    """Neither in arguments nor, but for the web workers that were given one, in environments."""
    for process in (live.engine(), live.engine().parent()):
        assert process is not None
        folder = Path(f"/proc/{process.pid}")
        assert PLANTED.encode() not in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()


def test_the_check_finds_a_secret(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"a line\nAuthorization: Bearer {KEY}\n")
    with pytest.raises(AssertionError, match=PLANTED):
        check_no_secrets(log)
