"""LoRA adapters made on the spot, in the layout of peft, and the models that they are when merged."""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


def make_adapter(
    folder: Path,
    model: PreTrainedModel,
    targets: Sequence[str] = (*ATTENTION, *MLP),
    *,
    seed: int = 0,
    rank: int = 4,
    alpha: float = 8,
    size: float = 0.15,
    dtype: torch.dtype = torch.float32,
    **config: Any,
) -> Path:
    """Random factors for each linear layer whose name ends with one of `targets`; large enough to change texts."""
    random = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    ranks = config.get("rank_pattern", {})
    for name, module in model.named_modules():
        ending = name.rpartition(".")[2]
        if ending not in targets or not isinstance(module, nn.Linear | Conv1D):
            continue
        weight: Any = module.weight
        out_features, in_features = weight.T.shape if isinstance(module, Conv1D) else weight.shape
        r = ranks.get(ending, rank)
        for side, shape in (("A", (r, in_features)), ("B", (out_features, r))):
            values = size * torch.randn(shape, generator=random)
            tensors[f"base_model.model.{name}.lora_{side}.weight"] = values.to(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "somebody/else",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.05,
        "target_modules": list(targets),
        "bias": "none",
        "modules_to_save": None,
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": any(isinstance(module, Conv1D) for module in model.modules()),
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings | config))
    return folder


def merged(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """A copy of a plain model with `W + scale * B @ A` in place of its weights, computed in float64."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    result = copy.deepcopy(model)
    for key, a in tensors.items():
        if not key.endswith(".lora_A.weight"):
            continue
        name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        b = tensors[key.replace("lora_A", "lora_B")]
        alpha = config.get("alpha_pattern", {}).get(name.rpartition(".")[2], config["lora_alpha"])
        scale = alpha / (math.sqrt(len(a)) if config["use_rslora"] else len(a))
        module: Any = result.get_submodule(name)
        change = scale * (b.double() @ a.double()).to(module.weight.device)
        change = change.T if isinstance(module, Conv1D) else change
        module.weight.data = (module.weight.double() + change).to(module.weight.dtype)
    return result
