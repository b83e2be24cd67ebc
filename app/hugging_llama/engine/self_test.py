"""Can this model be batched? Decided by trying it, never by a list of names."""

import logging
import random
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hugging_llama.engine.attention import ATTENTION_NAME, LayerProbe
from hugging_llama.engine.kv_cache import KVCache
from hugging_llama.engine.model_runner import Chunk, ModelRunner, accepts, compute_guard, rope_switch, vocab_size

logger = logging.getLogger(__name__)

_LAYER_TYPES = {"full_attention", "sliding_attention"}
_MIN_TOKENS = 18
_MAX_TOKENS = 96

# the largest difference of logits, relative to their spread: (at all positions, at three quarters of them). In
# half precision single positions differ more, for example where a router chooses another expert by a hair
_TOLERANCE = {torch.float32: (1e-3, 1e-3), torch.float64: (1e-6, 1e-6)}
_HALF_TOLERANCE = (0.5, 0.06)
_NOISE_FACTOR = 3.0


def can_host(model: PreTrainedModel) -> tuple[bool, str]:
    """Whether the batched runner computes what the model itself computes, and if not, why.

    Runs some twenty tokens both ways. Afterwards the model's attention is set to ours if it can be hosted, and as
    it was if not.
    """
    original = model.config._attn_implementation
    reason = _structural_reason(model)
    if not reason:
        try:
            reason = _numeric_reason(model)
        except Exception as error:
            # whatever a foreign model raises here, it only means that it can't be run this way
            logger.debug("the self-test failed", exc_info=error)
            reason = f"{type(error).__name__}: {error}"
    model.set_attn_implementation(original if reason else ATTENTION_NAME)
    return not reason, reason


def _structural_reason(model: PreTrainedModel) -> str:
    if not getattr(model, "_supports_attention_backend", False):
        return "its attention can't be replaced"
    if model.config.is_encoder_decoder:
        return "it has an encoder"
    if not vocab_size(model):
        return "it has no language model head"
    if not accepts(model, "position_ids"):
        return "it takes no position ids"
    other = {str(name) for name in _layer_types(model) or ()} - _LAYER_TYPES
    if other:
        return f"it has layers of type {', '.join(sorted(other))}"
    # these frequencies follow the longest sequence of a forward, so neighbours would change each other's text
    ropes = _rope_types(model)
    if "dynamic" in ropes or ("longrope" in ropes and rope_switch(model) is None):
        return "its positions are scaled dynamically"
    return ""


def _numeric_reason(model: PreTrainedModel) -> str:
    model.set_attn_implementation(ATTENTION_NAME)
    runner = ModelRunner(model)
    probe = runner.probe()
    reason = _probe_reason(model, probe)
    if reason:
        return reason
    prompts = _prompts(runner.vocab_size, probe)
    ours = _batched_logits(runner, probe, prompts)
    model.set_attn_implementation("eager")
    for prompt, logits in zip(prompts, ours, strict=True):
        plain = _plain_logits(model, prompt)
        worst, most = _worst_and_most(logits, plain)
        # written so that NaN fails
        if _is_within(worst, most, _TOLERANCE.get(runner.dtype, _HALF_TOLERANCE)):
            continue
        # some models in half precision don't agree with themselves when a matrix has other sizes
        own_worst, own_most = _worst_and_most(_plain_logits(model, prompt[:-3]), plain[:-3])
        if not _is_within(worst, most, (_NOISE_FACTOR * own_worst, _NOISE_FACTOR * own_most)):
            return f"batched logits differ by {worst:.2g} ({most:.2g} at most positions)"
    return ""


def _is_within(worst: float, most: float, allowed: tuple[float, float]) -> bool:
    return worst <= allowed[0] and most <= allowed[1]


def _probe_reason(model: PreTrainedModel, probe: LayerProbe) -> str:
    config = model.config.get_text_config()
    if probe.repeated:
        return "a layer attends more than once"
    if len(probe.shapes) != config.num_hidden_layers:
        return f"only {len(probe.shapes)} of {config.num_hidden_layers} layers use the attention interface"
    layer_types, window = _layer_types(model), getattr(config, "sliding_window", None)
    for layer, seen in probe.windows.items():
        slides = layer_types[layer] == "sliding_attention" if layer_types else window is not None
        # a window that exists in the mask only would be lost on us, and windows are often too large to be tried
        if slides != (seen is not None) or (slides and seen != window):
            return f"layer {layer} does not pass on its sliding window"
    return ""


def _prompts(vocab_size: int, probe: LayerProbe) -> tuple[list[int], list[int]]:
    """Two prompts of different length, the first longer than the sliding windows where that is affordable."""
    window = max((w for w in probe.windows.values() if w is not None), default=0)
    num_tokens = max(window + 10, _MIN_TOKENS)
    if num_tokens > _MAX_TOKENS:
        num_tokens = _MIN_TOKENS
    rng = random.Random(0)
    # image and control tokens lie at the ends of vocabularies
    ids = [rng.randrange(vocab_size // 20, max(vocab_size // 2, 1)) for _ in range(2 * num_tokens - 5)]
    return ids[:num_tokens], ids[num_tokens:]


def _batched_logits(
    runner: ModelRunner, probe: LayerProbe, prompts: tuple[list[int], list[int]]
) -> tuple[Tensor, Tensor]:
    """Both prompts in one cache: chunks alone, chunks beside each other, a chunk beside decode, decode together."""
    cache = KVCache(probe.shapes, dtype=runner.dtype, device=runner.device, capacity_tokens=1024)
    slots = [slot for prompt in prompts if (slot := cache.allocate(len(prompt))) is not None]
    a, b = (len(prompt) for prompt in prompts)
    first, second = a // 2, a - 4
    steps = [
        [(0, 0, first)],
        [(0, first, second), (1, 0, b - 7)],
        [(0, second, second + 1), (1, b - 7, b - 3)],
        *([(0, a - 3 + i, a - 2 + i), (1, b - 3 + i, b - 2 + i)] for i in range(3)),
    ]
    logits: tuple[list[Tensor], list[Tensor]] = ([], [])
    for step in steps:
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
        out = runner.compute(chunks)
        parts = torch.split(out, [stop - start for _, start, stop in step])
        for (which, _, _), part in zip(step, parts, strict=True):
            logits[which].append(part)
    return torch.cat(logits[0]), torch.cat(logits[1])


def _plain_logits(model: PreTrainedModel, prompt: list[int]) -> Tensor:
    with compute_guard(model.device), torch.inference_mode():
        output: Any = model(input_ids=torch.tensor([prompt], device=model.device), use_cache=False)
    logits: Tensor = output.logits[0]
    return logits


def _worst_and_most(ours: Tensor, plain: Tensor) -> tuple[float, float]:
    """How far logits `[n, vocab_size]` are apart, relative to their spread: at worst, at three quarters of n."""
    ours, plain = ours.float(), plain.float()
    spread = plain - plain.mean(dim=-1, keepdim=True)
    difference: Tensor = (ours - plain).norm(dim=-1) / spread.norm(dim=-1).clamp(min=1e-30)
    return difference.max().item(), difference.quantile(0.75).item()


def _layer_types(model: PreTrainedModel) -> list[str] | None:
    types: list[str] | None = getattr(model.config.get_text_config(), "layer_types", None)
    return types


def _rope_types(model: PreTrainedModel) -> set[str]:
    found: set[str] = set()
    for module in model.modules():
        kinds: Any = getattr(module, "rope_type", None)
        found.update(kinds.values() if isinstance(kinds, dict) else [kinds] if isinstance(kinds, str) else [])
    return found
