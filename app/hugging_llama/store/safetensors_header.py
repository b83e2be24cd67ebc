"""The header of a safetensors file: which tensors it holds. No tensor is ever read, and no header believed unseen."""

import json
import os
from collections.abc import Callable
from typing import Any

from hugging_llama_config.model_size import StoredTensor

_MAX_HEADER_BYTES = 64 * 2**20
_ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


class BadSafetensorsError(Exception):
    """Not a whole safetensors file."""


def read_tensors(path: str) -> list[StoredTensor]:
    """The tensors of a file whose header agrees with its size. Raises BadSafetensorsError or OSError."""
    with open(path, "rb") as file:
        return parse_tensors(file.read, os.fstat(file.fileno()).st_size)


def parse_tensors(read: Callable[[int], bytes], size: int) -> list[StoredTensor]:
    """The tensors of a file of `size` bytes whose next ones `read` gives; no more than its header is asked for.

    Raises BadSafetensorsError, or what `read` raises.
    """
    length = int.from_bytes(read(8), "little")
    if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
        raise BadSafetensorsError("header length")
    text = read(length)
    try:
        header: Any = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise BadSafetensorsError("header is not JSON") from error
    if not isinstance(header, dict):
        raise BadSafetensorsError("header is not an object")
    header.pop("__metadata__", None)
    return _tensors(header, size - 8 - length)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a name that stands twice one reader takes the first, another the last."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name stands twice")
    return values


def _tensors(header: dict[str, Any], data_bytes: int) -> list[StoredTensor]:
    """The tensors, whose data fill the rest of the file without holes or overlaps, as the format demands."""
    found: list[StoredTensor] = []
    places: list[tuple[int, int]] = []
    for name, entry in header.items():
        tensor, place = _tensor(name, entry)
        found.append(tensor)
        places.append(place)
    end_of_last = 0
    for begin, end in sorted(places):
        if begin != end_of_last:
            raise BadSafetensorsError("tensors overlap, or there is a hole between them")
        end_of_last = end
    if end_of_last != data_bytes:
        raise BadSafetensorsError("file is cut short")
    return found


def _tensor(name: str, entry: Any) -> tuple[StoredTensor, tuple[int, int]]:
    """The tensor, and where its data begin and end."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        is_typed = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (KeyError, TypeError, ValueError) as error:
        raise BadSafetensorsError("tensor entry") from error
    if not is_typed or not isinstance(dtype, str) or dtype not in _ITEM_BITS or len(shape) > 16:
        raise BadSafetensorsError("tensor entry")
    tensor = StoredTensor(name, dtype, tuple(shape))
    if (tensor.num_elements * _ITEM_BITS[dtype] + 7) // 8 != end - begin:
        raise BadSafetensorsError("tensor size")
    return tensor, (begin, end)
