"""An engine process without torch: the real server over a facade that makes up its tokens.

Started by the real supervisor as `python scripted_engine.py SOCKET`. A prompt tells what to do, as query text:
`n` tokens of `size` bytes, one each `tick_ms`, after `prefill_ms`; `error` ends it with an error; with `until`, the
path of a file, the second token and those after it come when that is there. With `hang` the
thread that moves frames waits for ever, as it would for a lock that somebody else never gives back.
"""

import heapq
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

from hugging_llama.engine.__main__ import serve
from hugging_llama.errors import GenerationError
from hugging_llama.ipc.facade import Answer, Emit, EngineFacade, Key
from hugging_llama.neutral.events import (
    Classified,
    Detokenized,
    Embeddings,
    EngineStatus,
    Finished,
    FinishReason,
    Loaded,
    TextDelta,
    Tokenized,
    Usage,
)
from hugging_llama.neutral.models import LoadedModel, ModelRef
from hugging_llama.neutral.requests import (
    ClassifyRequest,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    LoadRequest,
    TextPrompt,
    TokenizeRequest,
)
from hugging_llama_config.settings import Settings

_LOOK_S = 0.02
"""How often a sequence that waits for a file looks for it."""
_STEP_S = 0.004
"""As long as a step of a small model takes: what falls due meanwhile goes out in one frame, as a batch's tokens do."""


@dataclass(slots=True)
class Sequence:
    """One generation: what is left of it and when its next token is due."""

    left: int
    text: str
    tick_s: float
    due_at: float
    error: str
    until: str = ""
    made: int = 0

    @property
    def is_held(self) -> bool:
        return bool(self.made and self.until and not os.path.exists(self.until))


class ScriptedFacade:
    """An EngineFacade with one step thread, as a runner has. Each change of the sequences is one atomic operation of a
    dict: for a lock the receiving thread would wait as long as a busy step thread keeps taking it again. What is due is
    the step thread's own, in order; of a sequence that was cancelled it hears when its turn comes."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._arrived: queue.SimpleQueue[tuple[Key, Sequence]] = queue.SimpleQueue()
        self._sequences: dict[Key, Sequence] = {}
        self._due: list[tuple[float, int, Key, Sequence]] = []
        self._order = itertools.count()
        self._cancelled = 0
        self._max_batch = 0
        self._closed = False
        threading.Thread(target=self._run, daemon=True).start()

    def generate(self, key: Key, request: GenerateRequest) -> None:
        assert isinstance(request.prompt, TextPrompt)
        query = {name: values[0] for name, values in parse_qs(request.prompt.text).items()}
        if "hang" in query:
            threading.Event().wait()
        sequence = self._sequences[key] = Sequence(
            left=int(query.get("n", 5)),
            text="x" * int(query.get("size", 5)),
            tick_s=float(query.get("tick_ms", 0)) / 1000,
            due_at=time.monotonic() + float(query.get("prefill_ms", 0)) / 1000,
            error=query.get("error", ""),
            until=query.get("until", ""),
        )
        self._max_batch = max(self._max_batch, len(self._sequences))
        self._arrived.put((key, sequence))

    def embed(self, key: Key, request: EmbedRequest) -> None:
        vectors = tuple((float(len(text)), 0.5) for text in request.inputs)
        self._emit([(key, Embeddings(vectors=vectors, num_prompt_tokens=len(vectors)))])

    def classify(self, key: Key, request: ClassifyRequest) -> None:
        scores = tuple((float(len(text)),) for text in request.inputs)
        self._emit([(key, Classified(scores=scores, labels=("LABEL_0",), num_prompt_tokens=len(scores)))])

    def tokenize(self, key: Key, request: TokenizeRequest) -> None:
        assert isinstance(request.prompt, TextPrompt)
        self._emit([(key, Tokenized(token_ids=tuple(request.prompt.text.encode())))])

    def detokenize(self, key: Key, request: DetokenizeRequest) -> None:
        self._emit([(key, Detokenized(text=bytes(request.token_ids).decode()))])

    def load(self, key: Key, request: LoadRequest) -> None:
        if request.model.path.endswith("never"):
            return
        self._emit([(key, Loaded(model=loaded_model(request.model.path)))])

    def unload(self, model: ModelRef) -> None:
        pass

    def cancel(self, key: Key) -> None:
        self._cancelled += self._sequences.pop(key, None) is not None

    def cancel_connection(self, connection_id: int) -> None:
        for key in [key for key in list(self._sequences) if key[0] == connection_id]:
            self.cancel(key)

    def loaded(self) -> list[LoadedModel]:
        return [loaded_model("demo")]

    def status(self) -> EngineStatus:
        return EngineStatus(
            pid=os.getpid(),
            device="cpu",
            num_running=len(self._sequences),
            cancelled_total=self._cancelled,
            max_batch_size=self._max_batch,
        )

    def close(self) -> None:
        self._closed = True

    def _run(self) -> None:
        while not self._closed:
            self._admit(max(0.0, self._due[0][0] + _STEP_S - time.monotonic()) if self._due else 1.0)
            if answers := [answer for key, sequence in self._take_due() for answer in self._step(key, sequence)]:
                self._emit(answers)

    def _take_due(self) -> list[tuple[Key, Sequence]]:
        """One token each: none gets its next one before all others that are due."""
        now = time.monotonic()
        taken = []
        while self._due and self._due[0][0] <= now:
            _, _, key, sequence = heapq.heappop(self._due)
            if self._sequences.get(key) is sequence:
                taken.append((key, sequence))
        return taken

    def _admit(self, wait_s: float) -> None:
        """Those that have arrived, the first of them within `wait_s`."""
        try:
            self._await(*self._arrived.get(timeout=wait_s))
            while True:
                self._await(*self._arrived.get_nowait())
        except queue.Empty:
            pass

    def _await(self, key: Key, sequence: Sequence) -> None:
        heapq.heappush(self._due, (sequence.due_at, next(self._order), key, sequence))

    def _step(self, key: Key, sequence: Sequence) -> list[tuple[Key, Answer]]:
        if sequence.is_held:
            sequence.due_at = time.monotonic() + _LOOK_S
            self._await(key, sequence)
            return []
        if sequence.left == 0:
            self._sequences.pop(key, None)
            if sequence.error:
                return [(key, GenerationError(sequence.error))]
            return [(key, Finished(reason=FinishReason.STOP, usage=Usage(num_output_tokens=sequence.made)))]
        sequence.due_at += sequence.tick_s
        sequence.left -= 1
        sequence.made += 1
        self._await(key, sequence)
        return [(key, TextDelta(sequence.text))]


def loaded_model(path: str) -> LoadedModel:
    return LoadedModel(
        name="demo:latest",
        path=path,
        digest="",
        size_bytes=1,
        size_vram_bytes=0,
        context_length=512,
        expires_at_s=float("inf"),
        ref_count=0,
        device="cpu",
        dtype="float32",
        runner="scripted",
    )


def make_engine(settings: Settings) -> Callable[[Emit], EngineFacade]:
    return ScriptedFacade


if __name__ == "__main__":
    import sys

    serve(sys.argv[1:], make_engine)
