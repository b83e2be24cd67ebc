"""What a LoRA adapter of the library peft says in its configuration and in the names and shapes of its tensors.

The tensors are called `base_model.model.<module>.lora_A.weight` `[r, in_features]` and `….lora_B.weight`
`[out_features, r]`. They come from strangers. Raises AdapterError with a sentence for the user, which never
names a path.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_MAX_TENSORS = 100_000
_MAX_RANK = 4096
_MAX_ALPHA = 1e6
_FLOAT_TYPES = ("F32", "F16", "BF16")

# what says how an adapter was trained, or nothing, and so may have any value
_WITHOUT_EFFECT = {
    "peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode",
    "exclude_modules", "lora_dropout", "layers_to_transform", "layers_pattern", "megatron_core", "loftq_config",
    "eva_config", "corda_config", "lora_ga_config", "runtime_config", "qalora_group_size", "ensure_weight_tying",
    # honoured
    "r", "rank_pattern", "lora_alpha", "alpha_pattern", "use_rslora", "target_modules", "init_lora_weights", "bias",
    # of a layer whose weight lies transposed: the factors never do
    "fan_in_fan_out",
}  # fmt: skip
# these change the base's own weights where an adapter begins
_CHANGED_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")

_TENSOR_NAME = re.compile(r"base_model\.model\.([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+){0,31})\.lora_([AB])\.weight")
_SHOWN_NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
_PATTERN = re.compile(r"\^?[A-Za-z0-9_.]{1,200}")


class AdapterError(Exception):
    """No adapter that can be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRankShape:
    """One module's change: `scale * B @ A`, of rank `r`."""

    r: int
    in_features: int
    out_features: int
    scale: float


def check_kind(config: Mapping[str, Any]) -> None:
    """Whatever would change what the adapter computes, and is not done here, is refused by its name."""
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"only adapters of the type LORA are supported, not {_shown(config.get('peft_type'))}")
    if config.get("bias", "none") != "none":
        raise AdapterError("this adapter trains the base model's biases (bias), which is not supported")
    unknown = sorted(key for key, value in config.items() if value and key not in _WITHOUT_EFFECT)
    if unknown:
        raise AdapterError(f"this adapter uses {_shown(unknown[0])}, which is not supported")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_CHANGED_BASES):
        raise AdapterError(
            f"this adapter changes the base model's own weights (init_lora_weights {_shown(start)}); "
            "convert it to a plain LoRA adapter with peft"
        )


def low_rank_shapes(
    config: Mapping[str, Any], tensors: Iterable[tuple[str, str, tuple[int, ...]]]
) -> dict[str, LowRankShape]:
    """The changes by the name of a module of the base model; `tensors` are name, dtype and shape of each."""
    sides = _sides(list(tensors))
    targets = config.get("target_modules")
    names = {target for target in targets if isinstance(target, str)} if isinstance(targets, list) else None
    ranks, alphas = _Pattern(config, "rank_pattern", "r"), _Pattern(config, "alpha_pattern", "lora_alpha")
    found = {}
    for module, shapes in sides.items():
        if names is not None and names.isdisjoint(_names(module)):
            raise AdapterError(f"the adapter's weights change {module}, which its {ADAPTER_CONFIG} does not name")
        found[module] = _shape(config, module, shapes, ranks.of(module), alphas.of(module))
    return found


def no_such_layer(name: str) -> str:
    """What is said of an adapter that changes a layer which the model does not have."""
    return f"the adapter is for another model: this one has no linear layer {name}"


def other_shape(name: str, shape: LowRankShape, in_features: int, out_features: int) -> str:
    """What is said of an adapter that takes a layer to be of another shape."""
    return (
        f"the adapter is for another model: it takes {name} to be {shape.out_features} by {shape.in_features}, "
        f"and here it is {out_features} by {in_features}"
    )


def _sides(tensors: list[tuple[str, str, tuple[int, ...]]]) -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of each module's `A` and `B`."""
    if not tensors or len(tensors) > _MAX_TENSORS:
        raise AdapterError("the adapter has no weights, or far too many")
    sides: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, dtype, shape in tensors:
        match = _TENSOR_NAME.fullmatch(name)
        if match is None:
            raise AdapterError(f"the adapter holds {_shown(name)}, which is no LoRA weight of a linear layer")
        if dtype not in _FLOAT_TYPES:
            raise AdapterError("the adapter's weights are of a type that can't be used")
        sides.setdefault(match[1], {})[match[2]] = shape
    return sides


def _shape(
    config: Mapping[str, Any], module: str, sides: dict[str, tuple[int, ...]], rank: Any, alpha: Any
) -> LowRankShape:
    a, b = sides.get("A", ()), sides.get("B", ())
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or not all((*a, *b)) or a[0] > _MAX_RANK:
        raise AdapterError(f"the adapter's weights for {module} don't fit together")
    if rank != a[0]:
        raise AdapterError(f"the adapter's rank for {module} is {a[0]}, its {ADAPTER_CONFIG} says {_shown(rank)}")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not abs(alpha) <= _MAX_ALPHA:
        raise AdapterError(f"the adapter's {ADAPTER_CONFIG} has an impossible lora_alpha")
    # rank-stabilised LoRA, arXiv:2312.03732
    scale = alpha / (math.sqrt(a[0]) if config.get("use_rslora") else a[0])
    return LowRankShape(r=a[0], in_features=a[1], out_features=b[0], scale=scale)


class _Pattern:
    """`rank_pattern` or `alpha_pattern`: a value by names of modules, `default` for all others.

    The names may be regular expressions in peft; ones from strangers are not run.
    """

    def __init__(self, config: Mapping[str, Any], key: str, default: str) -> None:
        patterns = config.get(key) or {}
        if not isinstance(patterns, dict):
            raise AdapterError(f"the adapter's {key} is damaged")
        self._default = config.get(default)
        self._values: dict[str, tuple[int, Any]] = {}
        for place, (pattern, value) in enumerate(patterns.items()):
            name = pattern.replace("\\.", ".")
            if not _PATTERN.fullmatch(name):
                raise AdapterError(f"the adapter's {key} has a regular expression; only names of modules are supported")
            self._values.setdefault(name, (place, value))

    def of(self, module: str) -> Any:
        """The value of a module: the first name that fits counts, as in peft."""
        fitting = [self._values[name] for name in (f"^{module}", *_names(module)) if name in self._values]
        return min(fitting, key=lambda found: found[0])[1] if fitting else self._default


def _names(module: str) -> list[str]:
    """What may stand for a module: its last name, its last two, …, all of them."""
    parts = module.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def _shown(value: Any) -> str:
    """A value from a file as an error may hold it."""
    text = str(value)
    return text if _SHOWN_NAME.fullmatch(text) else "something else"
