"""A caller of one model that embeds or classifies, and a lock that holds its batches back."""

import queue
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hugging_llama.engine.loader import Checkpoint
from hugging_llama.engine.pooling_heads import pooling_head
from hugging_llama.engine.pooling_runner import PoolingRunner
from hugging_llama.ipc.facade import Answer, Key
from hugging_llama.neutral.events import Classified, Embeddings
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import ClassifyRequest, EmbedRequest

Input = str | tuple[int, ...]
REF = ModelRef(name="minilm", path="unused")


class Gate(AbstractContextManager[None]):
    """In a compute lock's place: every batch waits until `opened`; `reached` says that one does."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __enter__(self) -> None:
        self.reached.set()
        assert self.opened.wait(60)

    def __exit__(self, *error: object) -> None:
        return None


class EmbeddingClient:
    """Submits requests and takes answers by key."""

    def __init__(self, checkpoint: Checkpoint, lock: Any = None, *, max_batched_tokens: int = 0) -> None:
        self.answers: queue.Queue[tuple[Key, Answer]] = queue.Queue()
        self.finished: list[Key] = []
        self.runner = PoolingRunner(
            pooling_head(checkpoint),
            max_batched_tokens=max_batched_tokens,
            max_jobs=1000,
            lock=lock or nullcontext(),
            emit=self.take,
            on_finished=self.finished.append,
            name="minilm",
        )

    def take(self, items: Sequence[tuple[Key, Answer]]) -> None:
        for item in items:
            self.answers.put(item)

    def send(self, number: int, texts: Sequence[Input], **options: Any) -> Key:
        key = (1, number)
        request = EmbedRequest(model=REF, inputs=tuple(texts), **options)
        self.runner.submit(self.runner.prepare(key, request))
        return key

    def send_inputs(self, number: int, inputs: Sequence[str | tuple[str, str]], **options: Any) -> Key:
        key = (1, number)
        request = ClassifyRequest(model=REF, inputs=tuple(inputs), **options)
        self.runner.submit(self.runner.prepare(key, request))
        return key

    def classify(self, inputs: Sequence[str | tuple[str, str]], **options: Any) -> Classified:
        self.send_inputs(0, inputs, **options)
        _, answer = self.answers.get(timeout=60)
        assert isinstance(answer, Classified), answer
        return answer

    def receive(self, count: int) -> dict[Key, Answer]:
        return dict(self.answers.get(timeout=60) for _ in range(count))

    def embed(self, texts: Sequence[Input], **options: Any) -> Embeddings:
        self.send(0, texts, **options)
        _, answer = self.answers.get(timeout=60)
        assert isinstance(answer, Embeddings), answer
        return answer
