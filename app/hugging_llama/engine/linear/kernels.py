"""Which kernels this machine has: our own in C, or private operators of torch. Each is tried out before it is used."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import linear

from hugging_llama.engine.linear.int4 import pack_int4, pack_portable_int4
from hugging_llama.engine.linear.int8 import Int8Linear, PortableInt8Linear
from hugging_llama.engine.linear.native import native_kernels
from hugging_llama.engine.linear.packed import ExactLinear, Kernel
from hugging_llama.engine.linear.speed import is_clearly_slower
from hugging_llama.engine.memory import raise_if_out_of_memory

_log = logging.getLogger(__name__)

PLAIN = "plain"
"""What is shown where a model's own linear layers are left alone."""

_CANDIDATES: Mapping[str, tuple[Kernel, ...]] = {
    "none": (Kernel("packed", ExactLinear),),
    "int8": (Kernel("int8", Int8Linear), Kernel("int8 portable", PortableInt8Linear)),
    "int4": (Kernel("int4", pack_int4), Kernel("int4 portable", pack_portable_int4)),
}
QUANTIZATIONS = tuple(_CANDIDATES)

# the largest error of a product of random numbers, relative to its norm
_TOLERANCE = {"int8": 0.03, "int4": 0.2}
_EXACT_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
_HALF_TOLERANCE = 4e-3


def choose_kernel(quantization: str, dtype: torch.dtype) -> Kernel | None:
    """The best kernel that computes what it should on this processor; None if plain linear layers are the best.

    `quantization` is one of `QUANTIZATIONS`, `dtype` that of weights and activations. Takes up to 0.2 s.
    """
    tolerance = _TOLERANCE.get(quantization, _EXACT_TOLERANCE.get(dtype, _HALF_TOLERANCE))
    candidates = native_kernels(quantization) + _CANDIDATES[quantization]
    kernel = next((kernel for kernel in candidates if _is_right(kernel, dtype, tolerance)), None)
    if kernel is not None and quantization == "none" and is_clearly_slower(kernel.pack, dtype):
        kernel = None
    _log.info("linear layers in %s, quantization %s: %s", dtype, quantization, kernel.name if kernel else PLAIN)
    return kernel


def _is_right(kernel: Kernel, dtype: torch.dtype, tolerance: float) -> bool:
    """Whether a small product, with few rows and with many, is what it should be."""
    random = torch.Generator().manual_seed(0)
    weight, bias, rows = (torch.randn(shape, generator=random).to(dtype) for shape in ((64, 96), (64,), (33, 96)))
    exact = linear(rows.float(), weight.float(), bias.float())
    try:
        with torch.inference_mode():
            layer = kernel.pack(weight, bias)
            return all(_error(layer(rows[:n]), exact[:n]) <= tolerance for n in (1, 2, 33))
    except Exception as error:
        raise_if_out_of_memory(error)
        # an operator that is not there, or not for this processor, may raise anything
        _log.info("%s can't be used here: %s: %s", kernel.name, type(error).__name__, error)
        return False


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())
