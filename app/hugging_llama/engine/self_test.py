"""Can this model be batched? Decided by trying it, never by a list of names."""

import logging
import random
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from hugging_llama.engine.attention import ATTENTION_NAME, LayerProbe, UnsupportedAttentionError
from hugging_llama.engine.device_loss import exit_if_device_lost
from hugging_llama.engine.fused_layer import fuse_layers, unfuse_layers
from hugging_llama.engine.linear.packed import PackedLinear
from hugging_llama.engine.logit_difference import allowed_difference, is_within, worst_and_most
from hugging_llama.engine.memory import LOAD_SHORTAGE, is_out_of_memory
from hugging_llama.engine.model_runner import Chunk, ModelRunner, accepts, compute_guard, rope_switch, vocab_size
from hugging_llama.engine.reference_attention import REFERENCE_NAME
from hugging_llama.engine.state_cache import CacheOutline, state_outline
from hugging_llama.engine.state_runner import cache_argument, make_model_runner
from hugging_llama.errors import InsufficientMemoryError

logger = logging.getLogger(__name__)

_SLIDING_TYPES = {"sliding_attention", "hybrid_sliding"}
# what keeps nothing but keys, values and the states of transformers' cache; the rest only when it is tried
_LAYER_TYPES = _SLIDING_TYPES | {
    "full_attention",
    "hybrid",
    "linear_attention",
    "conv",
    "mamba",
    "attention",
    "moe",
    "mlp",
}
_MIN_TOKENS = 18
_MAX_TOKENS = 96
_NUM_DECODES = 3
_MAX_REASON = 100

_NOISE_FACTOR = 3.0
# activations that are rounded to eight bits make more of every difference
_QUANTISED_TOLERANCE = (0.7, 0.25)


def can_host(model: PreTrainedModel) -> tuple[bool, str]:
    """Whether the batched runner computes what the model itself computes, and if not, why.

    Runs some twenty tokens both ways. Afterwards the model's attention is set to ours if it can be hosted, and as
    it was if not. Raises InsufficientMemoryError where memory is too short to tell.
    """
    original = model.config._attn_implementation
    reason = _structural_reason(model)
    if not reason:
        try:
            reason = _numeric_reason(model)
        except UnsupportedAttentionError as error:
            reason = str(error)
        except Exception as error:
            if is_out_of_memory(error):
                raise InsufficientMemoryError(LOAD_SHORTAGE) from error
            exit_if_device_lost(error)
            # whatever else a foreign model raises here, it only means that it can't be run this way
            logger.debug("the self-test failed", exc_info=error)
            reason = f"it can't be run in a batch: {type(error).__name__}: {str(error)[:_MAX_REASON]}"
    wanted = original if reason else ATTENTION_NAME
    if model._can_set_attn_implementation() and model.config._attn_implementation != wanted:
        model.set_attn_implementation(wanted)
    return not reason, reason


def _structural_reason(model: PreTrainedModel) -> str:
    if model.config.is_encoder_decoder:
        return "it has an encoder"
    if not vocab_size(model):
        return "it has no language model head"
    other = {str(name) for name in _layer_types(model) or ()} - _LAYER_TYPES
    if other:
        return f"it has layers of type {', '.join(sorted(other))}"
    # these frequencies follow the longest sequence of a forward, so neighbours would change each other's text
    ropes = _rope_types(model)
    if "dynamic" in ropes or ("longrope" in ropes and rope_switch(model) is None):
        return "its positions are scaled dynamically"
    return ""


def _numeric_reason(model: PreTrainedModel) -> str:
    outline = state_outline(model)
    attends = outline is None or outline.num_attention_layers > 0
    if attends:
        if not model._can_set_attn_implementation():
            return "its attention can't be replaced"
        if not accepts(model, "position_ids"):
            return "it takes no position ids"
        model.set_attn_implementation(ATTENTION_NAME)
    runner = make_model_runner(model)
    probe = runner.probe()
    reason = _probe_reason(model, probe, runner.num_attention_layers)
    if reason:
        return reason
    if fuse_layers(model, probe):
        reason = _compared(model, runner, probe, outline, attends=attends)
        if not reason:
            return ""
        logger.info("its layers are not fused: %s", reason)
        unfuse_layers(model)
    return _compared(model, runner, probe, outline, attends=attends)


def _compared(
    model: PreTrainedModel, runner: ModelRunner, probe: LayerProbe, outline: CacheOutline | None, *, attends: bool
) -> str:
    """How far the batched logits are from the model's own, "" if near enough."""
    prompts = _prompts(runner.vocab_size, probe)
    # what the prompts have before they decode
    befores = [len(prompts[0]) - _NUM_DECODES - 1, len(prompts[1]) - _NUM_DECODES, 0]
    if attends:
        model.set_attn_implementation(ATTENTION_NAME)
    ours = _batched_logits(runner, prompts, befores)
    reasons = []
    # a model in half precision may agree with its exact attention or with its rounded one, and be far from the other
    for reference in (REFERENCE_NAME, "eager") if attends else ("",):
        if attends:
            model.set_attn_implementation(reference)
        try:
            plain = [
                _plain_logits(model, prompt) if outline is None else _own_steps(model, prompt, max(before, 1))
                for prompt, before in zip(prompts, befores, strict=True)
            ]
        except AttributeError as error:
            # not every family's file names its plain attention as the others do
            reasons.append(str(error))
            continue
        reasons.append(_difference(model, prompts, ours, plain))
        if not reasons[-1]:
            return ""
    return reasons[-1]


def _difference(model: PreTrainedModel, prompts: list[list[int]], ours: list[Tensor], plain: list[Tensor]) -> str:
    allowed = allowed_difference(model.dtype)
    if any(isinstance(module, PackedLinear) and not module.is_exact for module in model.modules()):
        allowed = _QUANTISED_TOLERANCE
    for prompt, own, logits in zip(prompts, plain, ours, strict=True):
        worst, most = worst_and_most(logits, own)
        # written so that NaN fails
        if is_within(worst, most, allowed):
            continue
        # some models in half precision don't agree with themselves when a matrix has other sizes
        own_worst, own_most = worst_and_most(_plain_logits(model, prompt[:-3]), own[:-3])
        if not is_within(worst, most, (_NOISE_FACTOR * own_worst, _NOISE_FACTOR * own_most)):
            return f"batched logits differ by {worst:.2g} ({most:.2g} at most positions)"
    return ""


def _probe_reason(model: PreTrainedModel, probe: LayerProbe, num_layers: int) -> str:
    if probe.repeated:
        return "a layer attends more than once"
    if num_layers and not probe.shapes:
        return "its layers don't hand the layout of a step down to their attention"
    if len(probe.shapes) != num_layers:
        return f"only {len(probe.shapes)} of {num_layers} layers use the attention interface"
    layer_types, window = _layer_types(model), getattr(model.config.get_text_config(), "sliding_window", None)
    for layer, seen in probe.windows.items():
        slides = layer_types[layer] in _SLIDING_TYPES if layer_types else window is not None
        # a window that exists in the mask only would be lost on us, and windows are often too large to be tried
        if slides != (seen is not None) or (slides and seen != window):
            return f"layer {layer} does not pass on its sliding window"
    return ""


def _prompts(vocab_size: int, probe: LayerProbe) -> list[list[int]]:
    """Prompts of different length, the first longer than the sliding windows where that is affordable."""
    window = max((w for w in probe.windows.values() if w is not None), default=0)
    num_tokens = max(window + 10, _MIN_TOKENS)
    if num_tokens > _MAX_TOKENS:
        num_tokens = _MIN_TOKENS
    rng = random.Random(0)
    # image and control tokens lie at the ends of vocabularies
    return [
        [rng.randrange(vocab_size // 20, max(vocab_size // 2, 1)) for _ in range(n)]
        for n in (num_tokens, num_tokens - 5, _NUM_DECODES)
    ]


def _batched_logits(runner: ModelRunner, prompts: list[list[int]], befores: list[int]) -> list[Tensor]:
    """All prompts in one cache: chunks alone, chunks beside each other, a chunk beside decode, decode together."""
    cache = runner.new_cache(capacity_tokens=1024, max_sequences=len(prompts))
    slots = [slot for prompt in prompts if (slot := cache.allocate(len(prompt))) is not None]
    if len(slots) < len(prompts):
        raise MemoryError("there is no memory for three short prompts")
    logits: list[list[Tensor]] = [[] for _ in prompts]
    for step in _steps(runner.whole_prompts, *befores):
        chunks = [
            Chunk(
                slots[which],
                start,
                prompts[which][start:stop],
                num_logits=stop - start,
                is_long=runner.is_long(len(prompts[which])),
            )
            for which, start, stop in step
        ]
        parts = torch.split(runner.compute(chunks), [stop - start for _, start, stop in step])
        for (which, _, _), part in zip(step, parts, strict=True):
            logits[which].append(part)
    return [torch.cat(parts) for parts in logits]


def _steps(whole_prompts: bool, *befores: int) -> list[list[tuple[int, int, int]]]:
    """(prompt, start, stop) of each step's chunks; `befores` tokens of each prompt come before it decodes.

    The first prompt decodes beside a chunk of the second one, the last begins with a decode step.
    """
    a, b, c = befores
    if whole_prompts:
        prefill = [[(0, 0, a)], [(0, a, a + 1), (1, 0, b)]]
    else:
        prefill = [[(0, 0, a // 2)], [(0, a // 2, a), (1, 0, b - 4)], [(0, a, a + 1), (1, b - 4, b)]]
    decode = [[(which, at + i, at + i + 1) for which, at in enumerate((a + 1, b, c))] for i in range(_NUM_DECODES)]
    return prefill + decode


def _plain_logits(model: PreTrainedModel, prompt: list[int]) -> Tensor:
    with compute_guard(model.device), torch.inference_mode():
        output: Any = model(input_ids=torch.tensor([prompt], device=model.device), use_cache=False)
    logits: Tensor = output.logits[0]
    return logits


def _own_steps(model: PreTrainedModel, prompt: list[int], first: int) -> Tensor:
    """Like `_plain_logits`, one by one after the `first`: some recurrent layers compute single tokens differently."""
    cache = DynamicCache(config=model.config)
    parts = []
    for start, stop in [(0, first), *((at, at + 1) for at in range(first, len(prompt)))]:
        arguments: dict[str, Any] = {cache_argument(model): cache}
        if accepts(model, "position_ids"):
            # as `generate` does: some models count wrongly by themselves
            arguments["position_ids"] = torch.arange(start, stop, device=model.device)[None]
        ids = torch.tensor([prompt[start:stop]], device=model.device)
        with compute_guard(model.device), torch.inference_mode():
            output: Any = model(input_ids=ids, use_cache=True, **arguments)
        parts.append(output.logits[0])
    return torch.cat(parts)


def _layer_types(model: PreTrainedModel) -> list[str] | None:
    types: list[str] | None = getattr(model.config.get_text_config(), "layer_types", None)
    return types


def _rope_types(model: PreTrainedModel) -> set[str]:
    found: set[str] = set()
    for module in model.modules():
        kinds: Any = getattr(module, "rope_type", None)
        found.update(kinds.values() if isinstance(kinds, dict) else [kinds] if isinstance(kinds, str) else [])
    return found
