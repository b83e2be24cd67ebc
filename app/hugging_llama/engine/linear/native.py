"""Linear layers over the native kernels, where this processor and the install have them."""

from collections.abc import Callable
from typing import Final

from torch import Tensor

from hugging_llama.engine.linear.packed import Kernel, Pack, PackedLinear, num_bytes
from hugging_llama.engine.native.linear import BFloat16Linear, Int4Linear, Int8Linear
from hugging_llama.engine.native.probe import Family, native_families

_Product = BFloat16Linear | Int8Linear | Int4Linear


class NativeLinear(PackedLinear):
    """A layer whose product is one native call, bias included. A row's bits don't depend on its batch mates."""

    def __init__(self, weight: Tensor, bias: Tensor | None, pack: Callable[[Tensor, Tensor | None], _Product]) -> None:
        super().__init__(weight)
        self._multiply: Final = pack(weight, bias)
        self.is_exact = isinstance(self._multiply, BFloat16Linear)
        scales = getattr(self._multiply, "scales", None)
        self.weight_bytes = num_bytes(self._multiply.weight, scales, self._multiply.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self._multiply(x)


def native_kernels(quantization: str) -> tuple[Kernel, ...]:
    """The native way to compute layers of this quantization, if there is one; the best candidate, then."""
    family, name, pack = _KERNELS[quantization]
    return (Kernel(name, pack),) if family in native_families() else ()


def has_native_linears() -> bool:
    """True if quantised layers are native ones."""
    return {Family.LINEAR_INT8, Family.LINEAR_INT4} <= native_families()


def _pack_bf16(weight: Tensor, bias: Tensor | None) -> PackedLinear:
    return NativeLinear(weight, bias, BFloat16Linear.pack)


def _pack_int8(weight: Tensor, bias: Tensor | None) -> PackedLinear:
    return NativeLinear(weight, bias, Int8Linear.pack)


def _pack_int4(weight: Tensor, bias: Tensor | None) -> PackedLinear:
    return NativeLinear(weight, bias, Int4Linear.pack)


_KERNELS: dict[str, tuple[Family, str, Pack]] = {
    "none": (Family.LINEAR_BF16, "native", _pack_bf16),
    "int8": (Family.LINEAR_INT8, "int8 native", _pack_int8),
    "int4": (Family.LINEAR_INT4, "int4 native", _pack_int4),
}
