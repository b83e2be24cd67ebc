"""The OpenAPI document is true: every route is in it, and schemathesis finds no answer that it does not foresee."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hugging_llama import create_app
from hugging_llama.dialects.documented import operation_of
from hugging_llama.neutral.events import (
    Finished,
    FinishReason,
    GenerateEvent,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCallDelta,
)
from hugging_llama.neutral.messages import ToolCall
from hugging_llama.neutral.requests import GenerateRequest
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import load_settings
from tests.functional.conftest import LOADED
from tests.hub_cache import MINILM
from tests.hub_server import StandInHub

DEMO = "hugging-llama/demo"
HI = [{"role": "user", "content": "Hi"}]
NOT_ON_THE_HUB = "pull model manifest: file does not exist"


def no_server_error(ctx: Any, response: Any, case: Any) -> None:
    """Ollama answers 500 where the registry says 404, and its clients know the sentence."""
    if response.status_code != 500 or response.json().get("error") != NOT_ON_THE_HUB:
        not_a_server_error(ctx, response, case)


CHECKS = (
    no_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
)


def script(request: GenerateRequest) -> Iterator[GenerateEvent]:
    """All that an answer can hold."""
    entry = TokenLogprob(b"a", -0.5, (TokenLogprob(b"\xff", -1.5),))
    entries = (entry,) if request.sampling.top_logprobs is not None else ()
    yield ThinkingDelta("hm", entries)
    yield TextDelta("Hello", entries)
    yield ToolCallDelta(ToolCall(id="call_1", name="f", arguments={"a": [1, None]}, index=0))
    yield Finished(reason=FinishReason.STOP, context=(1, 2) if request.return_context else ())


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, hub_cache: Path) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("openapi")
    with StandInHub() as hub:
        environ = {
            "HOME": str(folder),
            "HF_HUB_CACHE": str(hub_cache),
            "HF_ENDPOINT": hub.endpoint,
            "HUGGING_LLAMA_RUN_DIR": str(folder / "run"),
            "HUGGING_LLAMA_MAX_BLOB_BYTES": "1MB",
        }
        engine = ScriptedEngine(generate=script, loaded=[LOADED])
        yield create_app(load_settings(environ=environ), engine=engine)


@pytest.fixture(scope="module")
def document(app: Flask) -> Any:
    return app.test_client().get("/openapi.json").get_json()


def test_every_route_is_documented(app: Flask, document: Any) -> None:
    missing = [
        rule.rule for rule in app.url_map.iter_rules() if operation_of(app.view_functions[rule.endpoint]) is None
    ]
    assert missing == []
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)


def test_every_field_says_what_it_is(document: Any) -> None:
    silent = [
        (name, field)
        for name, schema in document["components"]["schemas"].items()
        if name.endswith("Request")
        for field, described in schema["properties"].items()
        if not described.get("description") and not described.get("$ref")
    ]
    assert [name for name in silent if name[1] != "function"] == []


def test_headers_stand_where_they_are_sent(app: Flask, document: Any) -> None:
    def told(path: str, method: str, status: str) -> set[str]:
        return set(document["paths"][path][method]["responses"][status]["headers"])

    in_all = {"X-Request-ID", "X-Ignored-Fields"}
    of_a_model = in_all | {"X-Truncated-Tokens", "X-Queue-Position", "X-Queue-Expected-Wait", "X-Queue-Wait"}
    assert told("/api/tags", "get", "200") == in_all
    assert told("/api/chat", "post", "200") == told("/v1/rerank", "post", "200") == of_a_model
    assert told("/v1/messages", "post", "200") == of_a_model | {"Request-Id"}
    assert told("/v1/messages/count_tokens", "post", "4XX") == in_all | {"Request-Id", "Retry-After"}
    assert told("/api/delete", "delete", "200") == in_all | {"X-Freed-Bytes"}
    assert told("/v1/chat/completions", "post", "5XX") == in_all | {"Retry-After"}
    exposed = app.test_client().get("/api/tags", headers={"Origin": "http://localhost:1"}).headers
    assert document["components"]["headers"].keys() <= set(exposed["Access-Control-Expose-Headers"].split(", "))
    assert all(header["description"] for header in document["components"]["headers"].values())


def test_it_is_a_document_of_its_version(document: Any) -> None:
    assert document["openapi"] == "3.2.0"
    schema = schemathesis.openapi.from_dict(document)
    assert len(list(schema.get_all_operations())) > 30


def _with_model(case: Any) -> Any:
    """A case that reaches a model: random names are nobody's, and an unload looks at nothing else."""
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        embeds = case.path.endswith(("embed", "embeddings"))
        case.body["model"] = MINILM if embeds else DEMO
        if case.body.get("keep_alive") == 0 and case.body["keep_alive"] is not False:
            del case.body["keep_alive"]
    return case


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize("number", [pytest.param(4, id="quick"), pytest.param(300, id="slow", marks=pytest.mark.slow)])
def test_schemathesis_finds_nothing(app: Flask, number: int, mode: schemathesis.GenerationMode) -> None:
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @settings(max_examples=number, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode).map(_with_model))
        def run(case: Any) -> None:
            case.call_and_validate(checks=list(CHECKS))

        try:
            run()
        except Unsatisfiable:
            assert mode is schemathesis.GenerationMode.NEGATIVE  # nothing that it takes can be wrong
