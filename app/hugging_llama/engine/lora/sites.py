"""Where the modules that adapters name are computed: by themselves, or as a part of a joint product."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hugging_llama.engine.fused_layer import FusedLayer
from hugging_llama.engine.linear.joint import JointLinear, JointPart
from hugging_llama.engine.linear.packed import PackedLinear


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A linear layer's result is columns `start` to `start + out_features` of the `width` that `module` returns.

    `is_head`: it makes the logits. `is_shared`: it stands at several places of the model.
    """

    module: nn.Module
    in_features: int
    out_features: int
    start: int
    width: int
    is_head: bool
    is_shared: bool


def find_sites(model: PreTrainedModel) -> dict[str, Site]:
    """The model's linear layers by the names that they have in transformers: packing and fusing don't show."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    places = list(_walk(model, ""))
    times = Counter(module for _, module in places)
    found = {}
    for name, module in places:
        where = _place(module)
        if where is not None:
            computing, in_features, out_features, start, width = where
            found[name] = Site(
                module=computing,
                in_features=in_features,
                out_features=out_features,
                start=start,
                width=width,
                is_head=module is head,
                is_shared=times[module] > 1,
            )
    return found


def _walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """All modules with the names of their places, the layers behind fused ones in place of these."""
    if isinstance(module, FusedLayer):
        module = module.original
    yield path, module
    if not isinstance(module, JointLinear | PackedLinear):
        for name, child in module._modules.items():  # named_children leaves out the second place
            if child is not None:
                yield from _walk(child, f"{path}.{name}" if path else name)


def _place(module: nn.Module) -> tuple[nn.Module, int, int, int, int] | None:
    """What computes a linear layer, its in_features and out_features, its first column and the width of the result."""
    if isinstance(module, JointLinear | JointPart):
        joint, index = (module, 0) if isinstance(module, JointLinear) else (module.joint, module.index)
        start, out_features = joint.columns(index)
        return joint.product, joint.in_features, out_features, start, joint.product.out_features
    if isinstance(module, Conv1D):
        in_features, out_features = module.weight.shape
    elif isinstance(module, nn.Linear | PackedLinear):
        in_features, out_features = module.in_features, module.out_features
    else:
        return None
    return module, in_features, out_features, 0, out_features
