"""The seam between the engine and whatever runs a model's sequences, here or on another machine."""

import logging
from typing import Protocol

import torch
from transformers import PreTrainedModel

from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.fallback import GenerateRunner
from hugging_llama.engine.kv_cache import KVCache, capacity_from_memory
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.engine.scheduler import Scheduler
from hugging_llama.engine.self_test import can_host
from hugging_llama.engine.sequence import Emit, OnFinished, Sequence, StreamKey
from hugging_llama.engine.stats import RunnerStats
from hugging_llama_config.settings import Settings

logger = logging.getLogger(__name__)

# tokens of one step if the settings leave it open: what a prompt's chunk may delay the running streams
_MAX_NUM_BATCHED_TOKENS = {"cpu": 256, "cuda": 2048}
_MAX_NUM_BATCHED_TOKENS_ELSEWHERE = 512


class Runner(Protocol):
    """One replica of a model. All methods may be called from any thread; events come through `emit`.

    A sequence that `submit` accepts ends in exactly one Finished or one error; one that it refuses (it raises a
    HuggingLlamaError) in none. Events of one runner are emitted in order, everything from one step at once.
    """

    kind: str

    def submit(self, sequence: Sequence) -> None: ...

    def cancel(self, key: StreamKey) -> None: ...

    def cancel_connection(self, connection_id: int) -> None: ...

    def stats(self) -> RunnerStats: ...

    def close(self) -> None: ...


def make_runner(
    model: PreTrainedModel,
    *,
    settings: Settings,
    emit: Emit,
    on_finished: OnFinished,
    name: str,
) -> Runner:
    """A started runner: batched if the self-test passes, else `generate` one at a time.

    Raises InsufficientMemoryError if no KV cache fits beside the model.
    """
    model.eval()  # type: ignore[no-untyped-call]
    hosted, reason = can_host(model)
    if not hosted:
        logger.warning("%s runs one request at a time: %s", name, reason)
        fallback = GenerateRunner(model, max_queue=settings.max_queue, emit=emit, on_finished=on_finished, name=name)
        fallback.start()
        return fallback
    model_runner = ModelRunner(model)
    layers, dtype, device = model_runner.probe().shapes, model_runner.dtype, model_runner.device
    capacity = capacity_from_memory(layers, dtype=dtype, device=device, budget_bytes=settings.kv_cache_bytes)
    kv_cache = KVCache(layers, dtype=dtype, device=device, capacity_tokens=capacity)
    scheduler = Scheduler(
        kv_cache,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens or default_batched_tokens(device),
        max_queue=settings.max_queue,
    )
    loop = StepLoop(model_runner, scheduler, kv_cache, emit=emit, on_finished=on_finished, name=name)
    loop.start()
    logger.info("%s runs batched, its KV cache holds %d tokens", name, capacity)
    return loop


def default_batched_tokens(device: torch.device) -> int:
    """The token budget of a step where the settings name none."""
    return _MAX_NUM_BATCHED_TOKENS.get(device.type, _MAX_NUM_BATCHED_TOKENS_ELSEWHERE)
