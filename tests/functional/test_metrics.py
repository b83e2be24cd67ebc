"""What is counted of odd requests; the scripted load on a real server is in tests/process/test_metrics.py."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from hugging_llama import create_blueprint
from hugging_llama.errors import EngineBusyError, GenerationError
from hugging_llama.neutral.events import Finished, FinishReason, PromptLogprobs, Queued, Started, TextDelta, Usage
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.settings import Settings
from tests.functional.conftest import MakeClient
from tests.scrape import Scrape

DEMO = "hugging-llama/demo"
FULL = "hugging-llama/demo:latest"
BODY = {"model": DEMO, "prompt": "x"}


def scrape(client: FlaskClient, path: str = "/metrics") -> Scrape:
    return Scrape.of(client.get(path).text)


def generate(client: FlaskClient, path: str = "/api/generate", **fields: object) -> bytes:
    with client.post(path, json=BODY | fields) as response:
        return response.get_data()


def test_what_comes_before_the_first_token_is_none(make_client: MakeClient) -> None:
    start = Started(
        num_prompt_tokens=1, num_cached_tokens=0, num_truncated_tokens=0, queued=Queued(position=1, waited_ns=5)
    )
    usage = Usage(num_prompt_tokens=3, num_output_tokens=2)
    answer = [
        start,
        PromptLogprobs(()),
        TextDelta("a"),
        TextDelta("b"),
        Finished(reason=FinishReason.STOP, usage=usage),
    ]
    client, _ = make_client(generate=answer)
    generate(client)
    found = scrape(client)
    assert found.get("time_to_first_token_seconds_count", endpoint="/api/generate", model=FULL) == 1
    assert found.get("inter_token_seconds_count") == 1
    assert found.get("output_tokens_total") == 2


def test_an_answer_without_a_token_has_no_first_one(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[Finished(reason=FinishReason.STOP)])
    generate(client)
    found = scrape(client)
    assert (found.get("time_to_first_token_seconds_count"), found.get("generation_seconds_count")) == (0, 1)


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_is_counted_once_wherever_it_comes(make_client: MakeClient, stream: bool) -> None:
    client, _ = make_client(generate=[TextDelta("a"), GenerationError("oops")])
    assert b"oops" in generate(client, stream=stream)
    found = scrape(client)
    assert found.by("errors_total", "endpoint", "code") == {("/api/generate", "generation"): 1}
    assert found.get("requests_total", endpoint="/api/generate", status="200" if stream else "500") == 1
    assert found.get("generations_total", outcome="generation") == 1


def test_who_is_sent_away_is_seen_by_the_alert_for_a_full_queue(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[EngineBusyError("full", queue_depth=1, retry_after_s=1)])
    for path, body in (("/api/generate", BODY), ("/v1/messages", {"model": DEMO, "messages": [], "max_tokens": 1})):
        client.post(path, json=body)
    assert scrape(client).get("errors_total", endpoint="/api/generate", code="engine_busy") == 1


def test_nothing_that_callers_make_up_becomes_a_label(make_client: MakeClient) -> None:
    client, _ = make_client()
    client.open("/api/tags", method="MADEUP")
    client.get("/made/up")
    client.post("/api/show", json={"model": "made-up/model"})
    generate(client, model="made-up/model")
    client.get("/api/tags", headers={"Authorization": "Bearer made-up", "X-Request-ID": "made-up"})
    text = client.get("/metrics").text.lower()
    assert "made" not in text
    assert Scrape.of(text).get("requests_total", endpoint="unknown", status="405") == 1


def test_mounted_it_counts_its_own_requests_and_no_others(settings: Settings) -> None:
    app = Flask("theirs")

    @app.get("/")
    def theirs() -> str:
        return "theirs"

    app.register_blueprint(create_blueprint(settings, engine=ScriptedEngine()), url_prefix="/llm")
    client = app.test_client()
    client.get("/")
    generate(client, "/llm/api/generate")
    found = scrape(client, "/llm/metrics")
    assert found.by("requests_total", "endpoint", "status") == {("/llm/api/generate", "200"): 1}
    assert found.get("generations_total", endpoint="/llm/api/generate", outcome="stop") == 1
    assert found.get("requests_in_progress") == 1
    assert "flask_http" not in found.text
