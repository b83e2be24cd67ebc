"""The seam between the engine and whatever runs a model's sequences, here or on another machine."""

import logging
from typing import Protocol

import torch
from transformers import PreTrainedModel

from hugging_llama.engine.beam_routing import BeamRouting
from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.fallback import GenerateRunner
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.engine.prefix_cache import PrefixCache
from hugging_llama.engine.scheduler import Scheduler
from hugging_llama.engine.self_test import can_host
from hugging_llama.engine.sequence import Emit, OnFinished, Sequence, StreamKey
from hugging_llama.engine.state_runner import make_model_runner
from hugging_llama.engine.stats import RunnerStats
from hugging_llama.engine.step_budget import StepBudget
from hugging_llama_config.settings import Settings

logger = logging.getLogger(__name__)

# prompt tokens of a step if the settings leave it open: (the fewest beside running streams, the most)
_PROMPT_TOKENS = {"cpu": (16, 512), "cuda": (256, 8192)}
_PROMPT_TOKENS_ELSEWHERE = (64, 2048)

_BATCHED = "the batch computes what the model computes alone"
_BATCHED_WITH_STATES = f"{_BATCHED}; its layers keep states, which prompts can't share and drafts can't use"


class Runner(Protocol):
    """One replica of a model. All methods may be called from any thread; events come through `emit`.

    A sequence that `submit` accepts ends in exactly one Finished or one error; one that it refuses (it raises a
    HuggingLlamaError) in none. Events of one runner are emitted in order, everything from one step at once; what is
    known before the step, such as Progress, goes out before it. `kind`
    names the way it works, `reason` says why this one was chosen.
    """

    kind: str
    reason: str

    @property
    def step_age_s(self) -> float: ...

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
    """A started runner: batched (beam search apart) if the self-test passes, else `generate` one at a time.

    Its KV cache is made for `max_num_seqs` sequences of `default_context` tokens, or one as long as the model can,
    as far as memory allows.

    Raises InsufficientMemoryError if no KV cache fits beside the model.
    """
    model.eval()  # type: ignore[no-untyped-call]
    model_runner, reason = choose_runner(model)
    if model_runner is None:
        logger.warning("%s runs one request at a time: %s", name, reason)
        fallback = GenerateRunner(model, max_queue=settings.max_queue, emit=emit, on_finished=on_finished, name=name)
        fallback.reason = reason
        fallback.start()
        return fallback
    logger.info("%s runs batched: %s", name, reason)
    loop = _step_loop(model_runner, settings, default_context, emit=emit, on_finished=on_finished, name=name)
    loop.reason = reason
    beams = GenerateRunner(
        model, max_queue=settings.max_queue, emit=emit, on_finished=on_finished, name=f"{name}-beams"
    )
    routing = BeamRouting(loop, beams)
    try:
        loop.start()
        beams.start()
    except BaseException:
        routing.close()  # a thread that runs keeps the weights
        raise
    return routing


def choose_runner(model: PreTrainedModel) -> tuple[ModelRunner | None, str]:
    """What runs the model in a batch, None if nothing does, and the reason."""
    hosted, reason = can_host(model)
    if not hosted:
        return None, reason
    model_runner = make_model_runner(model)
    return model_runner, _BATCHED if model_runner.can_rewind else _BATCHED_WITH_STATES


def _step_loop(
    model_runner: ModelRunner,
    settings: Settings,
    default_context: int,
    *,
    emit: Emit,
    on_finished: OnFinished,
    name: str,
) -> StepLoop:
    device, num_seqs = model_runner.device, settings.max_num_seqs
    kv_cache = model_runner.new_cache_from_memory(
        budget_bytes=settings.kv_cache_bytes,
        max_sequences=num_seqs,
        most_tokens=max(default_context * num_seqs, model_runner.max_positions or 0),
    )
    num_prefixes = num_seqs if settings.prefix_cache and model_runner.can_rewind else 0
    scheduler = Scheduler(
        kv_cache,
        PrefixCache(kv_cache, max_entries=num_prefixes),
        step_budget(settings, device),
        max_num_seqs=num_seqs,
        max_queue=settings.max_queue,
        is_long=model_runner.is_long,
        has_drafts=model_runner.can_rewind,
        whole_prompts=model_runner.whole_prompts,
    )
    if settings.cuda_graphs:
        model_runner.use_graphs()
    logger.info("the KV cache of %s holds %d tokens", name, kv_cache.capacity_tokens)
    return StepLoop(model_runner, scheduler, kv_cache, emit=emit, on_finished=on_finished, name=name)


def step_budget(settings: Settings, device: torch.device) -> StepBudget:
    """The prompt tokens of a step: as the settings say, else measured."""
    lowest, highest = _PROMPT_TOKENS.get(device.type, _PROMPT_TOKENS_ELSEWHERE)
    return StepBudget(
        fixed=settings.max_num_batched_tokens, lowest=lowest, highest=highest, target_s=settings.max_step_s
    )
