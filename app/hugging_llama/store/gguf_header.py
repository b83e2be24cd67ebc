"""The header of a GGUF file: what the model is and which tensors it holds, all of it checked against the file.

Libraries that read GGUF believe the counts, lengths and offsets they find; this runs first, so that they only ever see
files in which those agree. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little
endian). No weight is read.
"""

import math
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

MAX_HEADER_BYTES = 256 * 2**20
_MAX_KEYS = 4096
_MAX_TENSORS = 100_000
_MAX_ARRAY_ITEMS = 4 * 2**20
"""Of all arrays together. Three arrays of a vocabulary of 262,144 tokens and its merges have 1.4 million."""
_ITEMS_A_TOKEN, _OTHER_ARRAY_ITEMS = 6, 2**14
"""The library takes some 60 us for each item, and conversions take turns: texts, scores, types and merges of a
vocabulary are five for each of its tokens at most, all else is short."""
_CHARACTER_MAP, _MAX_CHARACTER_MAP = "tokenizer.ggml.precompiled_charsmap", 2**19
_MAX_KEY_BYTES = 256
_MAX_NAME_BYTES = 64
_MAX_KEPT_STRING_BYTES = 2**20
_MAX_ALIGNMENT = 2**16
_MAX_DIMENSIONS = 4
_MAX_FLOATS = 2**14
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

_STRING, _ARRAY = 8, 9
_BOOL = 7
_LETTERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "B", 10: "Q", 11: "q", 12: "d"}
_SCALARS: Mapping[int, struct.Struct] = {kind: struct.Struct(f"<{letter}") for kind, letter in _LETTERS.items()}

BLOCKS: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""By the number of a tensor's type: its name, how many elements a block has, how many bytes."""

_SIZES = {
    "block_count": 1024,
    "context_length": 2**28,
    "embedding_length": 2**17,
    "feed_forward_length": 2**21,
    "attention.head_count": 4096,
    "attention.head_count_kv": 4096,
    "attention.key_length": 2**14,
    "attention.value_length": 2**14,
    "rope.dimension_count": 2**14,
    "expert_count": 4096,
    "expert_used_count": 4096,
    "vocab_size": 2**22,
}
"""The most that may be said of an architecture; who builds the model allocates what is said."""

_DTYPES = {"F32": "float32", "F16": "float16"}

Value = str | int | float | bool


class BadGgufError(Exception):
    """Not a GGUF file that may be read; the message goes on after "this GGUF file"."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor. `shape` is in GGUF's order, the fastest dimension first; `offset` from the file's beginning."""

    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    num_bytes: int

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a file says. `metadata` has the single values and the strings of at most 1 MB, `arrays` only lengths."""

    metadata: Mapping[str, Value]
    arrays: Mapping[str, int]
    tensors: tuple[GgufTensor, ...]

    @property
    def architecture(self) -> str:
        """Lower-case letters, digits, `_`, `.` and `-`."""
        return str(self.metadata["general.architecture"])

    @property
    def chat_template(self) -> str:
        """In Jinja; "" if there is none."""
        return str(self.metadata.get("tokenizer.chat_template", ""))

    @property
    def kind(self) -> str:
        """The type that most weights have, such as `Q4_K`."""
        elements: dict[str, int] = {}
        for tensor in self.tensors:
            elements[tensor.kind] = elements.get(tensor.kind, 0) + tensor.num_elements
        return max(elements, key=lambda kind: elements[kind])

    @property
    def dtype(self) -> str:
        """What the weights are in once they are no GGUF: as they were, or bfloat16 if they were quantised."""
        return _DTYPES.get(self.kind, "bfloat16")


def read_header(path: str) -> GgufHeader:
    """Read and check the header; a large vocabulary takes half a second. Raises BadGgufError, OSError."""
    with open(path, "rb") as file:
        return _Reader(file, os.fstat(file.fileno()).st_size).header()


def read_floats(path: str, tensor: GgufTensor) -> list[float]:
    """The numbers of a small tensor of type F32. Raises BadGgufError for another one, OSError."""
    if tensor.kind != "F32" or len(tensor.shape) != 1 or tensor.num_elements > _MAX_FLOATS:
        raise BadGgufError(f"has {tensor.name} of an impossible type or shape")
    with open(path, "rb") as file:
        file.seek(tensor.offset)
        data = file.read(tensor.num_bytes)
    values = list(struct.unpack(f"<{tensor.num_elements}f", data))
    if not all(math.isfinite(value) for value in values):
        raise BadGgufError(f"has {tensor.name} with numbers that are none")
    return values


class _Reader:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._position = 0
        self._array_items = 0

    def header(self) -> GgufHeader:
        if self._take(4) != b"GGUF":
            raise BadGgufError("does not begin as one")
        version, num_tensors, num_keys = struct.unpack("<IQQ", self._take(20))
        if version not in (2, 3):
            raise BadGgufError("is of a version that can't be read (2 and 3 can, in little-endian order)")
        if not 0 < num_tensors <= _MAX_TENSORS or not 0 < num_keys <= _MAX_KEYS:
            raise BadGgufError("has no tensors or too many, or too much metadata")
        metadata, arrays = self._metadata(num_keys)
        alignment = _alignment(metadata)
        entries = [self._tensor() for _ in range(num_tensors)]
        start = -(-self._position // alignment) * alignment
        tensors = tuple(_placed(entry, start, alignment, self._size) for entry in entries)
        _check_apart(tensors)
        _check_arrays(arrays, tensors)
        if metadata.get(f"{metadata['general.architecture']}.block_count", 0) not in range(num_tensors):
            raise BadGgufError("has fewer tensors than layers")
        return GgufHeader(metadata, arrays, tensors)

    def _metadata(self, num_keys: int) -> tuple[dict[str, Value], dict[str, int]]:
        metadata: dict[str, Value] = {}
        arrays: dict[str, int] = {}
        for _ in range(num_keys):
            key = self._text(_MAX_KEY_BYTES, "a key")
            if key in metadata or key in arrays:
                raise BadGgufError("says something twice")
            kind = self._uint32()
            if kind == _ARRAY:
                arrays[key] = self._array()
            elif kind == _STRING:
                metadata[key] = self._string()
            else:
                metadata[key] = self._scalar(kind)
        _check_metadata(metadata, arrays)
        return metadata, arrays

    def _scalar(self, kind: int) -> Value:
        layout = _SCALARS.get(kind)
        if layout is None:
            raise BadGgufError("has metadata of an unknown type")
        value: Value = layout.unpack(self._take(layout.size))[0]
        if kind == _BOOL:
            if value not in (0, 1):
                raise BadGgufError("has a truth value that is none")
            return bool(value)
        return value

    def _array(self) -> int:
        kind, count = self._uint32(), self._uint64()
        self._array_items += count
        if self._array_items > _MAX_ARRAY_ITEMS:
            raise BadGgufError("has arrays that are too long")
        if kind == _STRING:
            for _ in range(count):
                self._skip(self._uint64())
        elif kind in _SCALARS:
            self._skip(count * _SCALARS[kind].size)
        else:
            raise BadGgufError("has arrays of an unknown type")
        return count

    def _string(self) -> str:
        """Text; the longest ones, which no model needs, are left out."""
        length = self._uint64()
        if length > _MAX_KEPT_STRING_BYTES:
            self._skip(length)
            return ""
        return self._decoded(self._take(length), "a text")

    def _tensor(self) -> GgufTensor:
        """An entry of the table; its offset still counts from the first tensor."""
        name = self._text(_MAX_NAME_BYTES, "a tensor's name")
        num_dimensions = self._uint32()
        if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
            raise BadGgufError("has a tensor of too many dimensions")
        shape = struct.unpack(f"<{num_dimensions}Q", self._take(8 * num_dimensions))
        number, offset = self._uint32(), self._uint64()
        if number not in BLOCKS:
            raise BadGgufError(f"has tensors of the unknown type {number}")
        kind, block, block_bytes = BLOCKS[number]
        if not all(shape) or shape[0] % block:
            raise BadGgufError("has a tensor of an impossible shape")
        return GgufTensor(name, kind, shape, offset, math.prod(shape) // block * block_bytes)

    def _text(self, limit: int, what: str) -> str:
        length = self._uint64()
        if not 0 < length <= limit:
            raise BadGgufError(f"has {what} that is empty or too long")
        return self._decoded(self._take(length), what)

    def _decoded(self, text: bytes, what: str) -> str:
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise BadGgufError(f"has {what} that is not UTF-8") from error

    def _uint32(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _uint64(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def _take(self, length: int) -> bytes:
        self._advance(length)
        data = self._file.read(length)
        if len(data) != length:
            raise BadGgufError("is cut short")
        return data

    def _skip(self, length: int) -> None:
        self._advance(length)
        self._file.seek(length, os.SEEK_CUR)

    def _advance(self, length: int) -> None:
        """Past the next `length` bytes, if the file and the limit have them."""
        self._position += length
        if self._position > self._size:
            raise BadGgufError("is cut short")
        if self._position > MAX_HEADER_BYTES:
            raise BadGgufError("has too much metadata")


def _alignment(metadata: Mapping[str, Value]) -> int:
    value = metadata.get("general.alignment", 32)
    if type(value) is not int or not 8 <= value <= _MAX_ALIGNMENT or value & (value - 1):
        raise BadGgufError("has an impossible alignment")
    return value


def _check_metadata(metadata: Mapping[str, Value], arrays: Mapping[str, int]) -> None:
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not _ARCHITECTURE.fullmatch(architecture):
        raise BadGgufError("does not say which architecture it has")
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise BadGgufError("holds no language model but " + ("an adapter" if kind == "adapter" else "another part"))
    if metadata.get("split.count", 1) not in (0, 1):
        raise BadGgufError("is one part of several; join them first with llama.cpp's llama-gguf-split --merge")
    if not isinstance(metadata.get("tokenizer.chat_template", ""), str):
        raise BadGgufError("has a chat template that is no text")
    if not arrays.get("tokenizer.ggml.tokens"):
        raise BadGgufError("has no vocabulary")
    for name, limit in _SIZES.items():
        value = metadata.get(f"{architecture}.{name}", 0)
        if type(value) is not int or not 0 <= value <= limit:
            raise BadGgufError(f"has an impossible {name}")


def _check_arrays(arrays: Mapping[str, int], tensors: tuple[GgufTensor, ...]) -> None:
    num_rows = next((tensor.shape[-1] for tensor in tensors if tensor.name == "token_embd.weight"), 0)
    num_mapped = arrays.get(_CHARACTER_MAP, 0)
    most = _ITEMS_A_TOKEN * min(num_rows, arrays["tokenizer.ggml.tokens"]) + _OTHER_ARRAY_ITEMS
    if sum(arrays.values()) - num_mapped > most or num_mapped > _MAX_CHARACTER_MAP:
        raise BadGgufError("has arrays that are longer than its vocabulary needs")


def _placed(entry: GgufTensor, start: int, alignment: int, size: int) -> GgufTensor:
    """The tensor with its place in a file of `size` bytes whose tensors begin at `start`."""
    offset = start + entry.offset
    if entry.offset % alignment or offset + entry.num_bytes > size:
        raise BadGgufError("is cut short, or has a tensor in an impossible place")
    return GgufTensor(entry.name, entry.kind, entry.shape, offset, entry.num_bytes)


def _check_apart(tensors: tuple[GgufTensor, ...]) -> None:
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise BadGgufError("has two tensors of one name")
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset < end:
            raise BadGgufError("has tensors that overlap")
        end = tensor.offset + tensor.num_bytes
