"""A stand-in for the server around a runner: output processors, a place where events arrive, and waiting for ends."""

import random
import threading
from typing import Any

from transformers import PreTrainedModel

from hugging_llama.engine.attention import ATTENTION_NAME
from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.prefix_cache import PrefixCache
from hugging_llama.engine.scheduler import Scheduler
from hugging_llama.engine.sequence import Emit, OnFinished, Sequence, StepEvents, StreamKey
from hugging_llama.engine.state_runner import make_model_runner
from hugging_llama.engine.step_budget import StepBudget
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.events import Finished, GenerateEvent, TextDelta
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.tiny_models import VOCAB_SIZE

GREEDY = SamplingParams(temperature=0.0, max_tokens=8)
WAIT_S = 60.0


class Echo:
    """Shows every token as its number; raises at the `fail_at`-th token, stops at a token in `stop_ids`."""

    def __init__(self, *, fail_at: int | None = None, stop_ids: frozenset[int] = frozenset()) -> None:
        self.fail_at = fail_at
        self.stop_ids = stop_ids
        self.pushed: list[int] = []
        self.num_flushed = 0
        self.num_thinking_tokens = 0
        self.is_aside = False
        self.is_whole = False
        self.stop: str | None = None

    def push(self, token_id: int) -> list[GenerateEvent]:
        self.pushed.append(token_id)
        if self.fail_at is not None and len(self.pushed) > self.fail_at:
            raise RuntimeError("the output processor fails")
        self.stop = str(token_id) if token_id in self.stop_ids else None
        return [] if self.stop else [TextDelta(f"{token_id} ")]

    def finish(self) -> list[GenerateEvent]:
        self.num_flushed += 1
        return [TextDelta("end")]


class Inbox:
    """Receives what a runner emits; `on_finished` is given to it, too."""

    def __init__(self) -> None:
        self.frames: list[StepEvents] = []
        self.finished: list[Sequence] = []
        self._changed = threading.Condition()

    def emit(self, events: StepEvents) -> None:
        with self._changed:
            self.frames.append(events)
            self._changed.notify_all()

    def on_finished(self, sequence: Sequence) -> None:
        with self._changed:
            self.finished.append(sequence)
            self._changed.notify_all()

    def events(self, key: StreamKey) -> list[Any]:
        with self._changed:
            return [event for frame in self.frames for at, event in frame if at == key]

    def text(self, key: StreamKey) -> str:
        return "".join(event.text for event in self.events(key) if isinstance(event, TextDelta))

    def ends(self, key: StreamKey) -> list[Any]:
        """All events of this stream that end one; there must be exactly one."""
        return [event for event in self.events(key) if isinstance(event, Finished | HuggingLlamaError)]

    def wait_finished(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.finished) >= count, WAIT_S), "the sequences did not end"

    def wait_for_events(self, key: StreamKey, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events_now(key)) >= count, WAIT_S), "no events came"

    def events_now(self, key: StreamKey) -> list[Any]:
        """Like `events`, for use with the lock held."""
        return [event for frame in self.frames for at, event in frame if at == key]


def make_sequence(
    number: int,
    prompt: list[int],
    sampling: SamplingParams = GREEDY,
    *,
    connection: int = 1,
    context_length: int = 1024,
    **options: Any,
) -> Sequence:
    options.setdefault("output", Echo())
    return Sequence(
        key=(connection, number),
        prompt_token_ids=prompt,
        sampling=sampling,
        context_length=context_length,
        **options,
    )


def make_prompts(count: int, *, seed: int = 1, shortest: int = 1, longest: int = 70) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(1, VOCAB_SIZE) for _ in range(rng.randint(shortest, longest))] for _ in range(count)]


def make_loop(
    model: PreTrainedModel,
    inbox: Inbox,
    *,
    max_num_seqs: int = 5,
    max_num_batched_tokens: int = 16,
    max_queue: int = 100,
    capacity_tokens: int = 1 << 14,
    max_prefixes: int = 8,
    emit: Emit | None = None,
    on_finished: OnFinished | None = None,
) -> StepLoop:
    """A batched runner that has not been started, so that a test decides when steps happen."""
    if model.config._attn_implementation != ATTENTION_NAME:
        model.set_attn_implementation(ATTENTION_NAME)
    model_runner = make_model_runner(model)
    kv_cache = model_runner.new_cache(capacity_tokens=capacity_tokens, max_sequences=max_num_seqs)
    scheduler = Scheduler(
        kv_cache,
        PrefixCache(kv_cache, max_entries=max_prefixes if model_runner.can_rewind else 0),
        StepBudget(fixed=max_num_batched_tokens, lowest=1, highest=1024, target_s=1.0),
        max_num_seqs=max_num_seqs,
        max_queue=max_queue,
        is_long=model_runner.is_long,
        has_drafts=model_runner.can_rewind,
        whole_prompts=model_runner.whole_prompts,
    )
    return StepLoop(
        model_runner,
        scheduler,
        kv_cache,
        emit=emit or inbox.emit,
        on_finished=on_finished or inbox.on_finished,
        name="test",
    )


def run_until(loop: StepLoop, inbox: Inbox, count: int) -> None:
    """Steps a loop that has not been started until `count` sequences have ended."""
    for _ in range(1000):
        if len(inbox.finished) >= count:
            return
        loop.run_once()
    raise AssertionError("the sequences did not end")
