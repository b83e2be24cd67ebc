"""What a model's config.json may claim. It comes from strangers, and building the layers allocates what it says."""

import math
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
    "max_position_embeddings": 1 << 28,
    # these families make tables of all positions
    "n_positions": 1 << 22,
    "n_ctx": 1 << 22,
    "max_seq_len": 1 << 22,
}
_MODULES = re.compile(
    r"(\w+_)?((?<!per_)layers?|blocks|depths?|stages|cycles|repeats|codebooks|quantizers|levels|flows|networks"
    r"|hash_functions)"
    r"|num_hidden_groups|inner_group_num|num_code_groups|intraclass_block_number|stage_numb_of_layers|ngram"
    r"|num_self_attends_per_block|num_layers_per_stack|(\w+_)?layer_types|layers_block_type"
)
"""What transformers' configurations call the number of parts that are built one after the other, or list by them."""
_MOST_MODULES = 512
_MORE_MODULES = {re.compile(r"(\w+_)?experts"): 16_384, re.compile(r"(\w+_)?labels"): 65_536}
_PADDED_TO = re.compile(r"attention_window|(mamba_)?chunk_size")
_LONGEST_PADDING = 1_024
"""Inputs are padded to a multiple of these, and scores are made within it."""
_MOST_TABLE = 1 << 27
"""Numbers in MPT's table of positions for each head, which each forward makes anew."""
_CYCLES = re.compile(r"(\w+_)?cycles")
"""Of one another: their product is how often the layers run."""
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
        if _makes_too_much(part):
            return "asks for more than a forward can do"
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
    if isinstance(value, list):
        if _PADDED_TO.fullmatch(key) and any(_is_impossible(key, number) for number in value):
            return True
        return _MODULES.fullmatch(key) is not None and _is_too_long(value)
    if not isinstance(value, (int, float)):
        return False
    if limit := _LIMITS.get(key):
        return not 0 <= value <= limit
    return value > (_LONGEST_PADDING if _PADDED_TO.fullmatch(key) else _most_modules(key))


def _makes_too_much(config: dict[str, Any]) -> bool:
    """Where numbers that are possible, each for itself, are multiplied."""
    cycles = [value for key, value in config.items() if isinstance(value, int) and _CYCLES.fullmatch(str(key))]
    table = _size(config, "n_heads") * _size(config, "max_seq_len")
    return math.prod(cycles) > _MOST_MODULES or table > _MOST_TABLE


def _is_too_long(values: list[Any]) -> bool:
    """Of a list of layers, or of how many each stage has."""
    if len(values) > _MOST_MODULES:
        return True
    return any(
        _is_too_long(value) if isinstance(value, list) else isinstance(value, (int, float)) and value > _MOST_MODULES
        for value in values
    )


def _most_modules(key: str) -> float:
    if _MODULES.fullmatch(key):
        return _MOST_MODULES
    return next((most for names, most in _MORE_MODULES.items() if names.fullmatch(key)), math.inf)


def _is_quantization_known(settings: object) -> bool:
    """The method decides which code reads the weights."""
    if settings is None:
        return True
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    return isinstance(method, str) and method in _QUANT_METHODS


def _is_plausible(config: dict[str, Any], weight_bytes: int) -> bool:
    layers = _size(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    hidden = _size(config, "hidden_size", "n_embd", "d_model")
    experts = _size(config, "num_experts", "num_local_experts", "n_routed_experts")
    least = hidden * _size(config, "vocab_size") + layers * hidden * max(hidden, experts)
    return least <= WEIGHTS_PER_BYTE * weight_bytes


def _size(config: dict[str, Any], *keys: str) -> int:
    return next((value for key in keys if isinstance(value := config.get(key), int)), 0)
