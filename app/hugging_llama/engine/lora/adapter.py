"""An adapter in memory: for each layer that it changes two thin products.

On a CPU with native kernels in bfloat16 they are native products, in which a row has the same bits whatever rows lie
beside it. Elsewhere they are torch's, and a row's change may differ in its last bits with the rows of its adapter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hugging_llama.engine.lora.current import CurrentChange
from hugging_llama.engine.native.linear import BFloat16Linear
from hugging_llama.engine.native.probe import Family, native_families

Product = Callable[[Tensor], Tensor]
"""Rows `[n, in_features]` to `[n, out_features]`."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What is added to a layer's rows: `up(down(x))`, the scale within `up`."""

    down: Product
    up: Product

    def __call__(self, x: Tensor) -> Tensor:
        """`x` `[n, in_features]` to `[n, width]`."""
        return self.up(self.down(x))


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LoraAdapter:
    """`key` names its content. `deltas` by the module that is changed; `current` is the model's."""

    key: str
    deltas: Mapping[nn.Module, Delta]
    num_bytes: int
    current: CurrentChange


def product_of(weight: Tensor) -> Product:
    """The product with `weight` `[out_features, in_features]`."""
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and Family.LINEAR_BF16 in native_families():
        return BFloat16Linear.pack(weight)
    weight = weight.contiguous()
    return lambda x: functional.linear(x, weight)
