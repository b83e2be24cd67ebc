"""Linear layers whose weights exist only in the layout of one matrix kernel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

Pack = Callable[[Tensor, Tensor | None], "PackedLinear"]
"""Packs a weight `[out_features, in_features]` and a bias `[out_features]`; neither is kept nor changed."""

_BATCH_HINT = 16


class PackedLinear(nn.Module):
    """`forward` maps `[..., in_features]` to `[..., out_features]` in the same dtype.

    There is no `weight`: who needs the sizes reads `in_features` and `out_features`. `weight_bytes` counts what the
    packed weights, scales and biases take, those of other packed layers within it aside. `is_exact`: its weights are
    the numbers they were.
    """

    is_exact = False

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight_bytes = 0


@dataclass(frozen=True, slots=True)
class Kernel:
    """A way to compute linear layers. `name` is what /api/ps shows of it."""

    name: str
    pack: Pack


class ExactLinear(PackedLinear):
    """The weights as they are, in oneDNN's blocked layout (`torch.ops.mkldnn`, what torch's inductor calls).

    In bfloat16 a row's result is the same bits whatever rows lie beside it.
    """

    is_exact = True

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight)
        # One layout serves all batches. The hint is of a size at which no kernel for single rows is chosen: those
        # round differently, and a row's bits would depend on whether it is alone.
        self._packed: Final = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _BATCH_HINT)
        self._bias: Final = None if bias is None else bias.clone()
        self._multiply: Final = torch.ops.mkldnn._linear_pointwise.default
        self.weight_bytes = num_bytes(weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._multiply(x, self._packed, self._bias, "none", [], "")
        return y


def num_bytes(*tensors: Tensor | None) -> int:
    """Bytes of tensors; None has none."""
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
