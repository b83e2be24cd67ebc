"""The header of a safetensors file: which tensors it holds. No tensor is ever read, and no header believed unseen."""

import json
import math
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

_MAX_HEADER_BYTES = 64 * 2**20
_ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


class BadSafetensorsError(Exception):
    """Not a whole safetensors file."""


@dataclass(frozen=True, slots=True)
class TensorCounts:
    """The number of elements in a file's tensors, by dtype in the spelling of safetensors (`BF16`, `F32`, …)."""

    elements: Counter[str]


def read_counts(path: str) -> TensorCounts:
    """Check a file's header against its size and count its elements. Raises BadSafetensorsError or OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise BadSafetensorsError("header length")
        text = file.read(length)
    try:
        header: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadSafetensorsError("header is not JSON") from error
    if not isinstance(header, dict):
        raise BadSafetensorsError("header is not an object")
    header.pop("__metadata__", None)
    return TensorCounts(_count(header, size - 8 - length))


def _count(header: dict[str, Any], data_bytes: int) -> Counter[str]:
    elements: Counter[str] = Counter()
    end_of_all = 0
    for tensor in header.values():
        dtype, number, end = _tensor(tensor)
        elements[dtype] += number
        end_of_all = max(end_of_all, end)
    if end_of_all != data_bytes:
        raise BadSafetensorsError("file is cut short")
    return elements


def _tensor(tensor: Any) -> tuple[str, int, int]:
    try:
        dtype, shape, (begin, end) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
        is_typed = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (KeyError, TypeError, ValueError) as error:
        raise BadSafetensorsError("tensor entry") from error
    if not is_typed or not isinstance(dtype, str) or dtype not in _ITEM_BITS or len(shape) > 16:
        raise BadSafetensorsError("tensor entry")
    number = math.prod(shape)
    if (number * _ITEM_BITS[dtype] + 7) // 8 != end - begin:
        raise BadSafetensorsError("tensor size")
    return dtype, number, end
