"""The compiled kernels as a ctypes library."""

import ctypes
import functools
import logging
from pathlib import Path

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

_LIBRARY = Path(__file__).with_name("kernels.so")
_VERSION = 6

_P, _I, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
# what both forms of attention end with
_ATTENTION = (_P, _I, _P, _I, _P, _I, _I, _I, _I, _I, _I, _F, _F, _P, _I)
_SIGNATURES = {
    "hl_pack_int8": (_P, _I, _I, _I, _P, _P, _I),
    "hl_linear_int8": (_P, _I, _I, _I, _I, _I, _P, _P, _P, _P, _I),
    "hl_pack_int4": (_P, _I, _I, _I, _P, _I),
    "hl_linear_int4": (_P, _I, _I, _I, _I, _I, _P, _P, _P, _I),
    "hl_pack_bf16": (_P, _I, _I, _P, _I),
    "hl_linear_bf16": (_P, _I, _I, _I, _I, _P, _P, _P, _I),
    "hl_pack_lora": (_P, _I, _I, _P),
    "hl_add_lora": (_P, _I, _I, _P, _I, _I, _P, _P, _P, _P, _I),
    "hl_rms_norm": (_P, _I, _P, _P, _I, _I, _I, _F, _F, _P, _P, _I),
    "hl_silu_mul": (_P, _I, _I, _I, _I, _P, _I),
    "hl_rotate": (_P, _I, _P, _P, _I, _I, _I, _I, _I, _P, _I),
    "hl_mask_rows": (_P, _I, _P, _I, _I, _I, _I, _P, _I),
    "hl_decode_attention": (_P, _I, _I, _P, _P, _P, _P, *_ATTENTION),
    "hl_chunk_attention": (_P, _I, _I, _P, _P, _I, _I, *_ATTENTION),
}

# the dtypes of rows, by the numbers that the kernels know them by
FORMATS = {torch.float32: 0, torch.bfloat16: 1}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None if they were not compiled or this processor can't run them. The log says which."""
    try:
        kernels = ctypes.CDLL(str(_LIBRARY))
        kernels.hl_version.restype = kernels.hl_is_supported.restype = ctypes.c_int64
        if kernels.hl_version() != _VERSION:
            raise OSError("it was compiled from other sources: install again")
        if not kernels.hl_is_supported():
            raise OSError("the processor has no AVX-512 with VNNI and BF16")
        for name, arguments in _SIGNATURES.items():
            getattr(kernels, name).argtypes = arguments
            getattr(kernels, name).restype = ctypes.c_int64
    except (OSError, AttributeError) as error:
        _log.info("no native kernels: %s", error)
        return None
    return kernels


def kernels() -> ctypes.CDLL:
    """The library where it must be there. Raises RuntimeError if it is not."""
    loaded = library()
    if loaded is None:
        raise RuntimeError("the native kernels are not available")
    return loaded


def format_of(x: Tensor) -> int:
    """The number of `x`'s dtype. Raises TypeError for one that the kernels don't know."""
    if x.dtype not in FORMATS:
        raise TypeError(f"native kernels take bfloat16 and float32, not {x.dtype}")
    return FORMATS[x.dtype]


def rows_of(x: Tensor) -> tuple[Tensor, int, int]:
    """`x` `[..., n]` as rows whose numbers lie side by side, how many they are, and how far apart they lie."""
    if x.is_contiguous():
        n = x.shape[-1]
        return x, x.numel() // max(n, 1), n
    if x.stride(-1) == 1 and (x.dim() == 2 or (x.dim() == 3 and x.shape[0] == 1)):
        return x, x.shape[-2], x.stride(-2)
    x = x.contiguous()
    return x, x.numel() // max(x.shape[-1], 1), x.shape[-1]
