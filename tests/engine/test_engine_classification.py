"""Classification through the whole engine: what it answers, what it refuses, and how its requests end."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hugging_llama.errors import (
    ContextLengthError,
    EngineShutdownError,
    InvalidRequestError,
    UnsupportedCapabilityError,
)
from hugging_llama.neutral.events import Classified, Detokenized, Loaded, Tokenized
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import ClassifyRequest, TextPrompt
from tests.engine.classifier_files import make_causal_reranker, make_classifier
from tests.engine.clients import DEMO_REF, EMBED_REF, Clients, GatedLoad


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    found = Clients()
    yield found
    found.engine.close()


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    folder = make_classifier(tmp_path_factory.mktemp("models") / "reranker")
    return ModelRef(name="reranker", path=str(folder))


def test_scores(clients: Clients, reranker: ModelRef) -> None:
    answer = clients.classify(reranker, ("query", "document"), "text")
    assert isinstance(answer, Classified)
    assert [len(scores) for scores in answer.scores] == [1, 1]
    assert answer.labels == ("LABEL_0",)
    assert answer.num_prompt_tokens == 5 + 8 + 3 + 4 + 2
    assert answer.load_ns > 0
    empty = clients.classify(reranker)
    assert isinstance(empty, Classified)
    assert (empty.scores, empty.num_prompt_tokens) == ((), 0)


def test_what_ps_shows(clients: Clients, reranker: ModelRef) -> None:
    answer = clients.load(reranker)
    assert isinstance(answer, Loaded)
    row = answer.model
    assert (row.runner, row.dtype, row.device, row.context_length) == ("classification", "float32", "cpu", 128)
    assert row.size_bytes > 0


def test_what_a_model_can_not_do(clients: Clients, reranker: ModelRef) -> None:
    for answer, capability in (
        (clients.classify(DEMO_REF, "a"), "classification"),
        (clients.classify(EMBED_REF, "a"), "classification"),
        (clients.embed(reranker, "a"), "embedding"),
        (clients.answers(clients.send("a", reranker))[-1], "completion"),
    ):
        assert isinstance(answer, UnsupportedCapabilityError)
        assert answer.facts["capabilities"] == [capability]
    with_adapter = dataclasses.replace(reranker, adapter="/somewhere")
    answer = clients.classify(with_adapter, "a")
    assert isinstance(answer, InvalidRequestError)
    assert "adapters" in answer.message


def test_errors_of_the_request(clients: Clients, reranker: ModelRef) -> None:
    assert isinstance(clients.classify(reranker, ("x" * 300, "y"), truncate=False), ContextLengthError)
    assert isinstance(clients.classify(reranker, ("x", "y"), context_length=1), InvalidRequestError)


def test_tokens(clients: Clients, reranker: ModelRef) -> None:
    answer = clients.tokenize(reranker, TextPrompt(text="ab"), return_text=True)
    assert isinstance(answer, Tokenized)
    assert (len(answer.token_ids), answer.text) == (4, "<|im_start|>ab<|im_end|>")
    text = clients.detokenize(reranker, *answer.token_ids)
    assert isinstance(text, Detokenized)
    assert text.text == answer.text


def test_a_causal_reranker(clients: Clients, tmp_path: Path) -> None:
    ref = ModelRef(name="causal", path=str(make_causal_reranker(tmp_path)))
    answer = clients.classify(ref, ("query", "one"), ("query", "another one"))
    assert isinstance(answer, Classified)
    assert [len(scores) for scores in answer.scores] == [1, 1]
    assert answer.scores[0] != answer.scores[1]
    assert isinstance(clients.tokenize(ref, TextPrompt(text="ab")), Tokenized)


def test_requests_end_with_their_connection(reranker: ModelRef) -> None:
    gate = GatedLoad()
    clients = Clients(load=gate)
    gone, left = clients.key(connection=1), clients.key(connection=2)
    for key in (gone, left):
        clients.engine.classify(key, ClassifyRequest(model=reranker, inputs=("a",)))
    gate.started.get(timeout=60)
    clients.engine.cancel_connection(1)
    gate.may_go.set()
    assert isinstance(clients.answers(left)[-1], Classified)
    assert not clients.has_ended(gone)
    clients.engine.close()


def test_a_request_that_waits_ends_with_the_engine(reranker: ModelRef) -> None:
    gate = GatedLoad()
    clients = Clients(load=gate)
    key = clients.key()
    clients.engine.classify(key, ClassifyRequest(model=reranker, inputs=("a",)))
    gate.started.get(timeout=60)
    closing = threading.Thread(target=clients.engine.close)
    closing.start()
    assert isinstance(clients.answers(key)[-1], EngineShutdownError)
    gate.may_go.set()
    closing.join(60)


def test_an_unload_waits_for_those_who_use_the_model(reranker: ModelRef) -> None:
    clients = Clients()
    keys = [clients.key() for _ in range(5)]
    for key in keys:
        clients.engine.classify(key, ClassifyRequest(model=reranker, inputs=(("query", "document"),) * 50))
    clients.engine.unload(reranker)
    assert all(isinstance(clients.answers(key)[-1], Classified) for key in keys)
    clients.load(DEMO_REF)  # waits for the unload before it
    assert clients.names == ["demo"]
    clients.engine.close()
