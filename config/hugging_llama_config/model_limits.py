"""What a model's config.json may claim. It comes from strangers, and building the layers allocates what it says."""

import re
from collections.abc import Iterator
from typing import Any

_LIMITS = {
    "num_hidden_layers": 512,
    "n_layer": 512,
    "num_layers": 512,
    "hidden_size": 65_536,
    "n_embd": 65_536,
    "d_model": 65_536,
    "head_dim": 8_192,
    "num_attention_heads": 4_096,
    "num_key_value_heads": 4_096,
    "intermediate_size": 1_048_576,
    "vocab_size": 2_000_000,
    "num_experts": 4_096,
    "num_local_experts": 4_096,
    "n_routed_experts": 4_096,
    "max_position_embeddings": 1 << 28,
}
_SHORT_LISTS = re.compile(r"(\w+_)?(layers|layer|blocks|depth|labels|codebooks)")
_MOST_OF_A_LIST = 65_536
"""Whatever its name is, building a model makes an object for each."""
_QUANT_METHODS = frozenset({"awq", "bitsandbytes", "compressed-tensors", "fbgemm_fp8", "fp8", "gptq", "mxfp4"})
"""Those whose settings are numbers and names; others are described by classes, files or code."""
MOST_TENSORS = 2**19
"""Of all files together. Mixtures of 512 experts have 300,000 where a quantised weight is four of them."""
WEIGHTS_PER_BYTE = 8
"""A 4-bit weight takes half a byte; what claims to have four times more than that does not match its files."""


def config_problem(config: dict[str, Any], weight_bytes: int) -> str:
    """Why a model of this configuration, with so many bytes of weights, must not be built, as the end of a sentence
    about its config.json; "" if it may be."""
    for part in dicts(config):
        if key := next((key for key, value in part.items() if _is_impossible(key, value)), None):
            return f"has an impossible {key[:80]}"
        if not _is_quantization_known(part.get("quantization_config")):
            return "names a quantisation that is not supported; these are: " + ", ".join(sorted(_QUANT_METHODS))
    return "" if all(_is_plausible(part, weight_bytes) for part in dicts(config)) else "does not fit its weights"


def dicts(value: Any) -> Iterator[dict[str, Any]]:
    """`value` and its sub-configurations."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from dicts(item)


def _is_impossible(key: str, value: object) -> bool:
    if not isinstance(value, (int, float)):
        return False
    if limit := _LIMITS.get(key):
        return not 0 <= value <= limit
    return value > _MOST_OF_A_LIST and _SHORT_LISTS.fullmatch(key) is not None


def _is_quantization_known(settings: object) -> bool:
    """The method decides which code reads the weights."""
    if settings is None:
        return True
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    return isinstance(method, str) and method in _QUANT_METHODS


def _is_plausible(config: dict[str, Any], weight_bytes: int) -> bool:
    layers = _size(config, "num_hidden_layers", "n_layer", "num_layers")
    hidden = _size(config, "hidden_size", "n_embd", "d_model")
    experts = _size(config, "num_experts", "num_local_experts", "n_routed_experts")
    least = hidden * _size(config, "vocab_size") + layers * hidden * max(hidden, experts)
    return least <= WEIGHTS_PER_BYTE * weight_bytes


def _size(config: dict[str, Any], *keys: str) -> int:
    return next((value for key in keys if isinstance(value := config.get(key), int)), 0)
