"""The seam between the engine and whatever runs a model's sequences, here or on another machine."""

import logging
from typing import Protocol

import torch
from transformers import PreTrainedModel

from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.fallback import GenerateRunner
from hugging_llama.engine.kv_cache import KVCache, capacity_from_memory
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.engine.prefix_cache import PrefixCache
from hugging_llama.engine.scheduler import Scheduler
from hugging_llama.engine.self_test import can_host
from hugging_llama.engine.sequence import Emit, OnFinished, Sequence, StreamKey
from hugging_llama.engine.stats import RunnerStats
from hugging_llama.engine.step_budget import StepBudget
from hugging_llama_config.settings import Settings

logger = logging.getLogger(__name__)

# prompt tokens of a step if the settings leave it open: (the fewest beside running streams, the most)
_PROMPT_TOKENS = {"cpu": (16, 512), "cuda": (256, 8192)}
_PROMPT_TOKENS_ELSEWHERE = (64, 2048)


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
    default_context: int = 4096,
    emit: Emit,
    on_finished: OnFinished,
    name: str,
) -> Runner:
    """A started runner: batched if the self-test passes, else `generate` one at a time.

    Its KV cache is made for `max_num_seqs` sequences of `default_context` tokens, or one as long as the model can,
    as far as memory allows.

    Raises InsufficientMemoryError if no KV cache fits beside the model.
    """
    model.eval()  # type: ignore[no-untyped-call]
    hosted, reason = can_host(model)
    if not hosted:
        logger.warning("%s runs one request at a time: %s", name, reason)
        fallback = GenerateRunner(model, max_queue=settings.max_queue, emit=emit, on_finished=on_finished, name=name)
        fallback.start()
        return fallback
    loop = _step_loop(ModelRunner(model), settings, default_context, emit=emit, on_finished=on_finished, name=name)
    loop.start()
    return loop


def _step_loop(
    model_runner: ModelRunner,
    settings: Settings,
    default_context: int,
    *,
    emit: Emit,
    on_finished: OnFinished,
    name: str,
) -> StepLoop:
    layers, dtype, device = model_runner.probe().shapes, model_runner.dtype, model_runner.device
    capacity = capacity_from_memory(
        layers,
        dtype=dtype,
        device=device,
        budget_bytes=settings.kv_cache_bytes,
        most_tokens=max(default_context * settings.max_num_seqs, model_runner.max_positions or 0),
    )
    kv_cache = KVCache(layers, dtype=dtype, device=device, capacity_tokens=capacity)
    scheduler = Scheduler(
        kv_cache,
        PrefixCache(kv_cache, max_entries=settings.max_num_seqs if settings.prefix_cache else 0),
        step_budget(settings, device),
        max_num_seqs=settings.max_num_seqs,
        max_queue=settings.max_queue,
        is_long=model_runner.is_long,
    )
    logger.info("%s runs batched, its KV cache holds %d tokens", name, capacity)
    return StepLoop(model_runner, scheduler, kv_cache, emit=emit, on_finished=on_finished, name=name)


def step_budget(settings: Settings, device: torch.device) -> StepBudget:
    """The prompt tokens of a step: as the settings say, else measured."""
    lowest, highest = _PROMPT_TOKENS.get(device.type, _PROMPT_TOKENS_ELSEWHERE)
    return StepBudget(
        fixed=settings.max_num_batched_tokens, lowest=lowest, highest=highest, target_s=settings.max_step_s
    )
