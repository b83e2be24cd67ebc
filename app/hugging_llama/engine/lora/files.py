"""Looks at an adapter's files before a weight is read: they come from strangers.

The format is that of the library peft: `adapter_config.json` beside `adapter_model.safetensors`, whose tensors are
called `base_model.model.<module>.lora_A.weight` `[r, in_features]` and `….lora_B.weight` `[out_features, r]`. Raises
ModelLoadError with a sentence for the user, which never names a path.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hugging_llama.engine.vetting import read_json
from hugging_llama.errors import ModelLoadError

_CONFIG_FILE = "adapter_config.json"
_WEIGHTS_FILE = "adapter_model.safetensors"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRankShape:
    """One module's change: `scale * B @ A`, of rank `r`."""

    r: int
    in_features: int
    out_features: int
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFiles:
    """What the files say. `shapes` by the name of a module of the base model."""

    weights: Path
    shapes: Mapping[str, LowRankShape]


def vet_adapter(folder: str) -> AdapterFiles:
    """Raises ModelLoadError for files that are missing, damaged, oversized, or of another kind than LoRA."""
    path = Path(folder)
    for name in (_CONFIG_FILE, _WEIGHTS_FILE):
        if not (path / name).is_file():
            raise ModelLoadError(f"this adapter has no {name}; pull or create it again")
    config = read_json(path / _CONFIG_FILE)
    _check_kind(config)
    shapes = _shapes(path / _WEIGHTS_FILE)
    targets = config.get("target_modules")
    names = {target for target in targets if isinstance(target, str)} if isinstance(targets, list) else None
    ranks, alphas = _Pattern(config, "rank_pattern", "r"), _Pattern(config, "alpha_pattern", "lora_alpha")
    found = {}
    for module, sides in shapes.items():
        if names is not None and names.isdisjoint(_names(module)):
            raise ModelLoadError(f"the adapter's weights change {module}, which its {_CONFIG_FILE} does not name")
        found[module] = _shape(config, module, sides, ranks.of(module), alphas.of(module))
    return AdapterFiles(weights=path / _WEIGHTS_FILE, shapes=found)


def _check_kind(config: dict[str, Any]) -> None:
    """Whatever would change what the adapter computes, and is not done here, is refused by its name."""
    if config.get("peft_type") != "LORA":
        raise ModelLoadError(f"only adapters of the type LORA are supported, not {_shown(config.get('peft_type'))}")
    if config.get("bias", "none") != "none":
        raise ModelLoadError("this adapter trains the base model's biases (bias), which is not supported")
    unknown = sorted(key for key, value in config.items() if value and key not in _WITHOUT_EFFECT)
    if unknown:
        raise ModelLoadError(f"this adapter uses {_shown(unknown[0])}, which is not supported")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_CHANGED_BASES):
        raise ModelLoadError(
            f"this adapter changes the base model's own weights (init_lora_weights {_shown(start)}); "
            "convert it to a plain LoRA adapter with peft"
        )


def _shapes(path: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of each module's `A` and `B`."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if not names or len(names) > _MAX_TENSORS:
                raise ModelLoadError("the adapter has no weights, or far too many")
            for name in names:
                match = _TENSOR_NAME.fullmatch(name)
                if match is None:
                    raise ModelLoadError(f"the adapter holds {_shown(name)}, which is no LoRA weight of a linear layer")
                part = file.get_slice(name)
                if part.get_dtype() not in _FLOAT_TYPES:
                    raise ModelLoadError("the adapter's weights are of a type that can't be used")
                shapes.setdefault(match[1], {})[match[2]] = tuple(part.get_shape())
    except (SafetensorError, OSError) as error:
        raise ModelLoadError("the adapter's weights are damaged; pull or create it again") from error
    return shapes


def _shape(
    config: dict[str, Any], module: str, sides: dict[str, tuple[int, ...]], rank: Any, alpha: Any
) -> LowRankShape:
    a, b = sides.get("A", ()), sides.get("B", ())
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or not all((*a, *b)) or a[0] > _MAX_RANK:
        raise ModelLoadError(f"the adapter's weights for {module} don't fit together")
    if rank != a[0]:
        raise ModelLoadError(f"the adapter's rank for {module} is {a[0]}, its {_CONFIG_FILE} says {_shown(rank)}")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not abs(alpha) <= _MAX_ALPHA:
        raise ModelLoadError(f"the adapter's {_CONFIG_FILE} has an impossible lora_alpha")
    # rank-stabilised LoRA, arXiv:2312.03732
    scale = alpha / (math.sqrt(a[0]) if config.get("use_rslora") else a[0])
    return LowRankShape(r=a[0], in_features=a[1], out_features=b[0], scale=scale)


class _Pattern:
    """`rank_pattern` or `alpha_pattern`: a value by names of modules, `default` for all others.

    The names may be regular expressions in peft; ones from strangers are not run.
    """

    def __init__(self, config: dict[str, Any], key: str, default: str) -> None:
        patterns = config.get(key) or {}
        if not isinstance(patterns, dict):
            raise ModelLoadError(f"the adapter's {key} is damaged")
        self._default = config.get(default)
        self._values: dict[str, tuple[int, Any]] = {}
        for place, (pattern, value) in enumerate(patterns.items()):
            name = pattern.replace("\\.", ".")
            if not _PATTERN.fullmatch(name):
                raise ModelLoadError(
                    f"the adapter's {key} has a regular expression; only names of modules are supported"
                )
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
