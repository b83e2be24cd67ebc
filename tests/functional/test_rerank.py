"""Reranking and classification over HTTP: the shapes of four endpoints, and real scores of real models on disk."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hugging_llama import create_app
from hugging_llama.client.local import LocalEngine
from hugging_llama.engine.engine import Engine
from hugging_llama.errors import ContextLengthError, EngineBusyError, InvalidRequestError, TextTooLongError
from hugging_llama.neutral.classification import Activation, ProblemType
from hugging_llama.neutral.events import Classified, Queued
from hugging_llama.neutral.requests import ClassifyRequest, LoadRequest
from hugging_llama_config.settings import Settings
from tests.engine.classifier_files import make_causal_reranker, make_classifier
from tests.functional.conftest import MakeClient
from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files

DEMO = "hugging-llama/demo"
RERANKER, CAUSAL, MOOD = "acme/reranker", "acme/causal", "acme/mood"
LABELS = ("sad", "so so", "happy")
DOCUMENTS = ["four", {"text": "three", "title": "t"}, "", "the longest one"]
TEXTS = ["four", "three", "", "the longest one"]
RERANKS = ["/v1/rerank", "/v2/rerank", "/api/rerank"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hub cache with two rerankers, a classifier and an embedding model."""
    root = tmp_path_factory.mktemp("classifiers")
    add_to_hub_cache(root / "hub", RERANKER, make_classifier(root / "reranker"))
    add_to_hub_cache(root / "hub", CAUSAL, make_causal_reranker(root / "causal"))
    named = make_classifier(root / "mood", id2label=dict(enumerate(LABELS)))
    add_to_hub_cache(root / "hub", MOOD, named)
    add_to_hub_cache(root / "hub", MINILM, minilm_files())
    return root / "hub"


@pytest.fixture
def make(make_client: MakeClient, cache: Path) -> MakeClient:
    """A client with these models, and an engine that plays a script."""
    return lambda **options: make_client(hub_cache=str(cache), **options)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[FlaskClient]:
    """A client of a real engine."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(device="cpu", home=str(home), hub_cache=str(cache), run_dir=str(home / "run"))
    engine = LocalEngine(lambda emit: Engine(settings, emit))
    yield create_app(settings, engine=engine).test_client()
    engine.close()


def rerank(client: FlaskClient, path: str, **body: Any) -> Any:
    return client.post(path, json={"model": RERANKER, "query": "q", "documents": DOCUMENTS} | body)


def lengths(request: ClassifyRequest) -> list[Classified]:
    """The logit is the length of the document."""
    scores = tuple((float(len(pair[1])),) for pair in request.inputs)
    return [Classified(scores=scores, labels=("fit",), num_prompt_tokens=7, activation=Activation.IDENTITY, load_ns=3)]


@pytest.mark.parametrize("version", ["1", "2"])
def test_jina_and_cohere(make: MakeClient, version: str) -> None:
    client, engine = make(classify=lengths)
    answer = rerank(client, f"/v{version}/rerank", top_n=3).get_json()
    assert list(answer) == ["id", "object", "model", "results", "usage", "meta"]
    assert answer["id"].startswith("rerank-")
    assert (answer["object"], answer["model"]) == ("list", RERANKER)
    assert answer["results"] == [
        {"index": 3, "relevance_score": 15.0},
        {"index": 1, "relevance_score": 5.0},
        {"index": 0, "relevance_score": 4.0},
    ]
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert answer["meta"] == {"api_version": {"version": version}, "tokens": {"input_tokens": 7}}
    (request,) = engine.requests
    assert isinstance(request, ClassifyRequest)
    assert request.inputs == tuple(("q", text) for text in TEXTS)
    assert (request.truncate, request.context_length) == (True, None)


@pytest.mark.parametrize("path", [*RERANKS, "/v1/classify"])
def test_who_had_to_wait_is_told_and_what_did_not_fit(make: MakeClient, path: str) -> None:
    found = Classified(
        scores=((1.0,),) * 4, labels=("fit",), num_prompt_tokens=7, num_truncated_tokens=30,
        queued=Queued(position=2, expected_s=0.5, waited_ns=1_500_000_000),
    )  # fmt: skip
    client, _ = make(classify=[found])
    body = {"model": MOOD, "input": TEXTS} if path == "/v1/classify" else {}
    response = client.post(path, json={"model": RERANKER, "query": "q", "documents": DOCUMENTS} | body)
    assert response.status_code == 200
    assert (response.headers["X-Queue-Position"], response.headers["X-Queue-Wait"]) == ("2", "1.500")
    assert response.headers["X-Queue-Expected-Wait"] == "0.5"
    assert response.headers["X-Truncated-Tokens"] == "30"


def test_documents_come_back_if_asked_for(make: MakeClient) -> None:
    client, _ = make(classify=lengths)
    answer = rerank(client, "/v1/rerank", return_documents=True, top_n=0).get_json()
    assert [result["document"] for result in answer["results"]] == [
        {"text": text} for text in ("the longest one", "three", "four", "")
    ]


def test_what_shortens_inputs_and_what_is_ignored(make: MakeClient) -> None:
    client, engine = make(classify=lengths)
    response = rerank(
        client, "/v2/rerank", truncate=False, truncate_prompt_tokens=9, max_tokens_per_doc=5, max_chunks_per_doc=2,
        rank_fields=None, priority=1,
    )  # fmt: skip
    assert response.headers["X-Ignored-Fields"] == "documents.title, max_chunks_per_doc, max_tokens_per_doc, priority"
    (request,) = engine.requests
    assert isinstance(request, ClassifyRequest)
    assert (request.truncate, request.context_length) == (False, 9)


def test_the_native_shape(make: MakeClient) -> None:
    client, engine = make(classify=lengths)
    body = {"top_n": 2, "truncate": False, "keep_alive": "10m", "options": {"num_ctx": 64}}
    answer = rerank(client, "/api/rerank", **body).get_json()
    assert list(answer) == ["model", "results", "total_duration", "load_duration", "prompt_eval_count"]
    assert answer["results"] == [
        {"index": 3, "document": "the longest one", "relevance_score": 15.0},
        {"index": 1, "document": "three", "relevance_score": 5.0},
    ]
    assert (answer["load_duration"], answer["prompt_eval_count"]) == (3, 7)
    assert answer["total_duration"] > 0
    (request,) = engine.requests
    assert isinstance(request, ClassifyRequest)
    assert (request.truncate, request.context_length, request.keep_alive_s) == (False, 64, 600)


@pytest.mark.parametrize("documents", [{}, {"documents": None}, {"documents": []}])
def test_reranking_nothing_loads_the_model(make: MakeClient, documents: dict[str, Any]) -> None:
    client, engine = make()
    answer = client.post("/api/rerank", json={"model": RERANKER, "keep_alive": 5} | documents).get_json()
    assert answer == {"model": RERANKER, "results": []}
    (request,) = engine.requests
    assert isinstance(request, LoadRequest)
    assert request.keep_alive_s == 5


def test_classify(make: MakeClient) -> None:
    found = Classified(scores=((0.0, math.log(2), math.log(5)),) * 2, labels=LABELS, num_prompt_tokens=9)
    client, engine = make(classify=[found])
    answer = client.post("/v1/classify", json={"model": MOOD, "input": ["a", ""]}).get_json()
    assert list(answer) == ["id", "object", "created", "model", "data", "usage"]
    assert answer["id"].startswith("classify-")
    assert (answer["object"], answer["model"]) == ("list", MOOD)
    assert [list(row) for row in answer["data"]] == [["index", "label", "probs", "num_classes"]] * 2
    assert [row["index"] for row in answer["data"]] == [0, 1]
    assert (answer["data"][0]["label"], answer["data"][0]["num_classes"]) == ("happy", 3)
    assert answer["data"][0]["probs"] == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9, "completion_tokens": 0}
    (request,) = engine.requests
    assert isinstance(request, ClassifyRequest)
    assert request.inputs == ("a", "")


def test_labels_of_which_several_apply(make: MakeClient) -> None:
    found = Classified(
        scores=((0.0, 2.0, -2.0),), labels=LABELS, num_prompt_tokens=9, problem_type=ProblemType.MULTI_LABEL
    )
    client, _ = make(classify=[found])
    (row,) = client.post("/v1/classify", json={"model": MOOD, "input": "a"}).get_json()["data"]
    assert row["label"] == "so so"
    assert row["probs"] == pytest.approx([0.5, 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))])


@pytest.mark.parametrize(
    ("path", "body", "status", "text", "param"),
    [
        ("/v1/rerank", {"model": None}, 400, "you must provide a model", "model"),
        ("/v1/rerank", {"model": "no/such"}, 404, "not found", None),
        ("/v1/rerank", {"model": ""}, 404, "not found", None),
        ("/v1/rerank", {"model": DEMO}, 400, "does not support rerank", None),
        ("/v1/rerank", {"model": MINILM}, 400, "does not support rerank", None),
        ("/v1/rerank", {"model": MOOD}, 400, "does not support rerank", None),
        ("/v1/rerank", {"query": None}, 400, "you must provide a query", "query"),
        ("/v1/rerank", {"query": 5}, 400, "Invalid type for 'query'", "query"),
        ("/v1/rerank", {"documents": None}, 400, "must be a list", "documents"),
        ("/v1/rerank", {"documents": []}, 400, "at least one", "documents"),
        ("/v1/rerank", {"documents": ["a", 5]}, 400, "documents[1]", "documents"),
        ("/v1/rerank", {"documents": ["a"] * 10_001}, 400, "at most 10000", "documents"),
        ("/v1/rerank", {"top_n": -1}, 400, "at least 0", "top_n"),
        ("/v1/rerank", {"truncate_prompt_tokens": 0}, 400, "no token", "truncate_prompt_tokens"),
        ("/v2/rerank", {"model": "no/such"}, 404, "not found", None),
        ("/v1/classify", {"model": "no/such", "input": "a"}, 404, "not found", None),
        ("/v1/classify", {"model": CAUSAL, "input": "a"}, 400, "does not support classification", None),
        ("/v1/classify", {"input": None}, 400, "invalid input", "input"),
        ("/v1/classify", {"input": [1]}, 400, "invalid input type", "input"),
        ("/v1/classify", {"input": ["a"] * 2049}, 400, "at most 2048", "input"),
        ("/v1/embeddings", {"input": "a"}, 400, "does not support embedding", None),
        ("/v1/completions", {"prompt": "a"}, 400, "does not support chat", None),
    ],
)
def test_errors(make: MakeClient, path: str, body: dict[str, Any], status: int, text: str, param: str | None) -> None:
    client, engine = make()
    response = rerank(client, path, **body)
    error = response.get_json()["error"]
    assert response.status_code == status, response.text
    assert text in error["message"]
    assert error["param"] == param
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert not engine.requests


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/rerank", {"model": "no/such"}, 404, "model 'no/such' not found"),
        ("/api/rerank", {"model": ""}, 404, "model '' not found"),
        ("/api/rerank", {"model": DEMO}, 400, f'"{DEMO}" does not support rerank'),
        ("/api/rerank", {"documents": 5}, 400, "documents must be a list of texts"),
        ("/api/rerank", {"documents": [None]}, 400, "documents[0] must be a text"),
        ("/api/rerank", {"query": []}, 400, "cannot unmarshal array into Go struct field RerankRequest.query"),
        ("/api/rerank", {"top_n": -1}, 400, "top_n must not be negative"),
        ("/api/rerank", {"keep_alive": []}, 400, "Unsupported type"),
        ("/api/rerank", {"options": {"num_ctx": "a"}}, 400, "num_ctx"),
        ("/api/generate", {"prompt": "a"}, 400, f'"{RERANKER}" does not support generate'),
        ("/api/chat", {"messages": [{"role": "user", "content": "a"}]}, 400, f'"{RERANKER}" does not support chat'),
        ("/api/embed", {"input": "a"}, 400, f'"{RERANKER}" does not support embedding'),
    ],
)
def test_native_errors(make: MakeClient, path: str, body: dict[str, Any], status: int, text: str) -> None:
    client, engine = make()
    response = rerank(client, path, **body)
    assert response.status_code == status, response.text
    assert text in response.get_json()["error"]
    assert not engine.requests


@pytest.mark.parametrize("path", [*RERANKS, "/v1/classify"])
def test_what_the_engine_refuses(make: MakeClient, path: str) -> None:
    for error, status, text in (
        (ContextLengthError(9, 5), 400, "context length" if path == "/api/rerank" else "the context holds 5"),
        (TextTooLongError(9, 5), 400, "the text has 9 bytes, and at most 5 are read at once"),
        (InvalidRequestError("the scores contain NaN or Inf values"), 400, "NaN"),
        (EngineBusyError("busy", queue_depth=1, retry_after_s=2.0), 503, "busy"),
    ):
        client, _ = make(classify=[error])
        response = rerank(client, path, input="a", model=MOOD if "classify" in path else RERANKER)
        assert response.status_code == status
        assert text in response.text
        assert ("Retry-After" in response.headers) == (status == 503)


@pytest.mark.parametrize("path", [*RERANKS, "/v1/classify"])
def test_bodies_that_are_none(make: MakeClient, path: str) -> None:
    client, _ = make()
    for data in (b"", b"{", b"[]", b"\xff", b'{"model": NaN}'):
        assert client.post(path, data=data).status_code == 400


@pytest.mark.parametrize("path", RERANKS)
def test_a_long_query_counts_once_a_document(make: MakeClient, path: str) -> None:
    """A small body would become gigabytes on the way to the engine."""
    client, engine = make()
    response = rerank(client, path, query="é" * 100_000, documents=[""] * 1000)
    assert response.status_code == 400
    assert "1000 documents, each with this query, are 200000000 bytes" in response.text
    assert not engine.requests


def test_an_answer_of_several_labels_is_no_ranking(make: MakeClient) -> None:
    """Files that say one thing to the store and another to the engine."""
    client, _ = make(classify=[Classified(scores=((1.0, 2.0),), labels=("a", "b"), num_prompt_tokens=1)])
    response = rerank(client, "/v1/rerank")
    assert (response.status_code, "does not support rerank" in response.text) == (400, True)


def test_what_is_said_of_such_models(make: MakeClient) -> None:
    client, _ = make()
    models = {model["name"]: model for model in client.get("/api/tags").get_json()["models"]}
    assert models[f"{RERANKER}:latest"]["capabilities"] == ["classification", "rerank"]
    assert models[f"{CAUSAL}:latest"]["capabilities"] == ["rerank"]
    assert models[f"{MOOD}:latest"]["capabilities"] == ["classification"]
    details = models[f"{RERANKER}:latest"]["details"]
    assert (details["family"], details["quantization_level"], details["context_length"]) == ("bert", "F32", 128)
    assert details["parameter_size"].endswith("K")
    shown = client.post("/api/show", json={"model": CAUSAL}).get_json()
    assert (shown["capabilities"], shown["details"]["family"]) == (["rerank"], "qwen2")
    assert shown["memory"]["kv_cache"] == 0


def test_a_named_model_reranks_like_its_base(make: MakeClient) -> None:
    client, engine = make(classify=lengths)
    body = {"model": "mine", "from": RERANKER, "parameters": {"num_ctx": 32}, "stream": False}
    assert client.post("/api/create", json=body).status_code == 200
    assert rerank(client, "/v1/rerank", model="mine").status_code == 200
    assert client.post("/api/show", json={"model": "mine"}).get_json()["capabilities"] == ["classification", "rerank"]
    request = engine.requests[-1]
    assert isinstance(request, ClassifyRequest)
    assert request.context_length == 32


@pytest.mark.parametrize("model", [RERANKER, CAUSAL])
@pytest.mark.parametrize("path", RERANKS)
def test_real_scores_are_those_of_the_library(real: FlaskClient, cache: Path, model: str, path: str) -> None:
    folder = next((cache / f"models--{model.replace('/', '--')}" / "snapshots").iterdir())
    library = CrossEncoder(str(folder), device="cpu")
    query = "a query"
    expected = library.predict([(query, text) for text in TEXTS], show_progress_bar=False)
    answer = rerank(real, path, model=model, query=query).get_json()
    found = {result["index"]: result["relevance_score"] for result in answer["results"]}
    assert list(found) == sorted(range(len(TEXTS)), key=lambda place: -expected[place])
    assert [found[place] for place in range(len(TEXTS))] == pytest.approx(expected.tolist(), abs=1e-5)
    assert len(set(found.values())) == len(TEXTS)


def test_real_probabilities_are_those_of_transformers(real: FlaskClient, cache: Path) -> None:
    folder = next((cache / f"models--{MOOD.replace('/', '--')}" / "snapshots").iterdir())
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    rows = [tokenizer(text, return_tensors="pt") for text in TEXTS]
    expected = [model(**row).logits.softmax(dim=1)[0].tolist() for row in rows]
    answer = real.post("/v1/classify", json={"model": MOOD, "input": TEXTS}).get_json()
    for row, probabilities in zip(answer["data"], expected, strict=True):
        assert row["probs"] == pytest.approx(probabilities, abs=1e-5)
        assert row["label"] == LABELS[probabilities.index(max(probabilities))]
    assert answer["usage"]["prompt_tokens"] == sum(row.input_ids.shape[1] for row in rows)


def test_a_real_model_in_memory(real: FlaskClient) -> None:
    assert real.post("/api/rerank", json={"model": RERANKER}).get_json() == {"model": RERANKER, "results": []}
    rows = {row["name"]: row for row in real.get("/api/ps").get_json()["models"]}
    row = rows[f"{RERANKER}:latest"]
    assert (row["context_length"], row["details"]["runner"]) == (128, "classification")
    assert row["size"] > 0
    long = rerank(real, "/api/rerank", documents=["x" * 300], truncate=False)
    assert (long.status_code, long.get_json()) == (400, {"error": "the input length exceeds the context length"})
