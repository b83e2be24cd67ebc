"""The header of a safetensors file: which tensors it holds. No tensor is ever read, and no header believed unseen."""

import json
import operator
import os
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

import msgspec

from hugging_llama_config.model_limits import MOST_TENSORS
from hugging_llama_config.model_size import StoredTensor
from hugging_llama_config.regular_file import open_regular

_MAX_HEADER_BYTES = 64 * 2**20
_MAX_ENTRY_BYTES = 2048
_QUOTES_OF_ENTRY = 10
"""Around the name, three keys and the dtype."""
_MAX_QUOTES = _QUOTES_OF_ENTRY * MOST_TENSORS + 2**16
_METADATA = "__metadata__"
_ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


class BadSafetensorsError(Exception):
    """Not a whole safetensors file."""


class TooManyTensorsError(BadSafetensorsError):
    """More than a model may have."""


class _Entry(msgspec.Struct, gc=False):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_HEADER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRY = msgspec.json.Decoder(_Entry)
_METADATA_VALUES = msgspec.json.Decoder(dict[str, str] | None)
_MOST_ELEMENTS = 2**64 - 1


def read_tensors(path: str) -> list[StoredTensor]:
    """The tensors of a file whose header agrees with its size. Raises BadSafetensorsError or OSError."""
    with open_regular(path) as file:
        return parse_tensors(file.read, os.fstat(file.fileno()).st_size)


def read_all_tensors(paths: Iterable[str]) -> list[StoredTensor]:
    """Those of all files of a model. Raises BadSafetensorsError, also for too many together, OSError."""
    found: list[StoredTensor] = []
    for path in paths:
        found += read_tensors(path)
        check_number(len(found))
    return found


def check_number(num_tensors: int) -> None:
    """Raises TooManyTensorsError."""
    if num_tensors > MOST_TENSORS:
        raise TooManyTensorsError(f"more than {MOST_TENSORS} tensors")


def data_bytes(tensors: Iterable[StoredTensor]) -> int:
    """What the data take, which is all of a file but its header."""
    return sum(map(_data_bytes, tensors))


def parse_tensors(read: Callable[[int], bytes], size: int) -> list[StoredTensor]:
    """The tensors of a file of `size` bytes whose next ones `read` gives; no more than its header is asked for.

    Raises BadSafetensorsError, or what `read` raises.
    """
    length = int.from_bytes(read(8), "little")
    if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
        raise BadSafetensorsError("header length")
    text = read(length)
    num_quotes = text.count(b'"')
    if num_quotes > _MAX_QUOTES:  # before anything is made of them
        check_number(num_quotes // _QUOTES_OF_ENTRY)
    try:
        text.decode()
        header = _HEADER.decode(text)
        metadata = bytes(header.pop(_METADATA, b""))
        if metadata:
            _METADATA_VALUES.decode(metadata)
        check_number(len(header))
        if not _is_said_once(text, header, metadata):
            json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise BadSafetensorsError("header is not JSON, or its metadata are no texts") from error
    return _tensors(header, size - 8 - length)


def _is_said_once(text: bytes, header: dict[str, msgspec.Raw], metadata: bytes) -> bool:
    """Whether there is no string but those that every tensor must have: so no name stands twice. False where it takes
    a closer look to know."""
    num_quotes = _QUOTES_OF_ENTRY * len(header) + metadata.count(b'"') + (2 if metadata else 0)
    return text.count(b'"') == num_quotes and text.count(b"\\") == metadata.count(b"\\")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a name that stands twice one reader takes the first, another the last."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name stands twice")
    return values


def _tensors(header: dict[str, msgspec.Raw], num_bytes: int) -> list[StoredTensor]:
    """The tensors, whose data fill the rest of the file without holes or overlaps, as the format demands."""
    found: list[StoredTensor] = []
    places: list[tuple[int, int]] = []
    for name, raw in header.items():
        tensor, place = _tensor(name, raw)
        found.append(tensor)
        places.append(place)
    end_of_last = 0
    for begin, end in sorted(places):
        if begin != end_of_last:
            raise BadSafetensorsError("tensors overlap, or there is a hole between them")
        end_of_last = end
    if end_of_last != num_bytes:
        raise BadSafetensorsError("file is cut short")
    return found


def _tensor(name: str, raw: msgspec.Raw) -> tuple[StoredTensor, tuple[int, int]]:
    """The tensor, and where its data begin and end."""
    if len(memoryview(raw)) > _MAX_ENTRY_BYTES:
        raise BadSafetensorsError("tensor entry")
    try:
        entry = _ENTRY.decode(raw)
    except (ValueError, RecursionError) as error:
        raise BadSafetensorsError("tensor entry") from error
    begin, end = entry.data_offsets
    shape = entry.shape
    if entry.dtype not in _ITEM_BITS or len(shape) > 16 or begin < 0 or min(shape, default=0) < 0:
        raise BadSafetensorsError("tensor entry")
    # the library multiplies one by one, a 0 at the end comes too late for it
    if max(*shape, *accumulate(shape, operator.mul), 0, 0) > _MOST_ELEMENTS:
        raise BadSafetensorsError("tensor size")
    tensor = StoredTensor(name, entry.dtype, shape)
    if _data_bytes(tensor) != end - begin:
        raise BadSafetensorsError("tensor size")
    return tensor, entry.data_offsets


def _data_bytes(tensor: StoredTensor) -> int:
    return (tensor.num_elements * _ITEM_BITS[tensor.dtype] + 7) // 8
