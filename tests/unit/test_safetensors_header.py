"""Headers of weight files: read, and never believed unseen."""

import contextlib
import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.store.safetensors_header import BadSafetensorsError, read_tensors
from hugging_llama_config.model_size import StoredTensor
from tests.store.models import safetensors


def _file(path: Path, header: Any, data: bytes = b"") -> str:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return str(path)


def test_tensors_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors({"a": ("BF16", (10, 20)), "c": ("F32", ()), "d": ("I8", (0, 3))}))
    tensors = read_tensors(str(path))
    assert tensors == [
        StoredTensor("a", "BF16", (10, 20)),
        StoredTensor("c", "F32", ()),
        StoredTensor("d", "I8", (0, 3)),
    ]
    assert [tensor.num_elements for tensor in tensors] == [200, 1, 0]


def _tensor(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    "header",
    [
        b"", b"{", b"[]", b"1", b"[" * 200_000, b"\xff" * 10, {"t": 1}, {"t": {}}, _tensor(dtype="X"),
        _tensor(dtype=[]),
        _tensor(shape=[-1]), _tensor(shape=[1.0]), _tensor(shape="1"), _tensor(shape=None), _tensor(shape=[True]),
        _tensor(shape=[2**62, 2**62]), _tensor(shape=[1] * 50), _tensor(offsets=[0]), _tensor(offsets=[4, 0]),
        _tensor(offsets=[0, 2**70]), _tensor(offsets=[-4, 0]), _tensor(offsets=[0, 8], shape=[2]),
    ],
)  # fmt: skip
def test_bad_headers(tmp_path: Path, header: Any) -> None:
    with pytest.raises(BadSafetensorsError):
        read_tensors(_file(tmp_path / "x", header, b"1234"))


@pytest.mark.parametrize("content", [b"", b"123", b"\xff" * 8, b"\xff" * 100, struct.pack("<Q", 2**40) + b"{}"])
def test_no_header_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadSafetensorsError):
        read_tensors(str(tmp_path / "x"))


def test_a_file_that_is_cut_short_or_too_long(tmp_path: Path) -> None:
    whole = safetensors({"a": ("F32", (100,))})
    path = tmp_path / "x"
    for content in (whole[:-1], whole[:50], whole + b"x"):
        path.write_bytes(content)
        with pytest.raises(BadSafetensorsError):
            read_tensors(str(path))


@pytest.mark.parametrize("places", [((0, 4), (0, 4)), ((0, 4), (2, 6)), ((0, 4), (8, 12)), ((4, 8), (8, 12))])
def test_data_that_overlap_or_leave_holes(tmp_path: Path, places: tuple[tuple[int, int], ...]) -> None:
    header = {f"t{number}": _tensor(offsets=place)["t"] for number, place in enumerate(places)}
    with pytest.raises(BadSafetensorsError):
        read_tensors(_file(tmp_path / "x", header, bytes(max(end for _, end in places))))


def test_a_name_that_stands_twice(tmp_path: Path) -> None:
    entry = json.dumps(_tensor())[1:-1].encode()
    with pytest.raises(BadSafetensorsError):
        read_tensors(_file(tmp_path / "x", b"{" + entry + b"," + entry + b"}", b"1234"))


def test_mutated_files_never_crash(tmp_path: Path) -> None:
    whole = safetensors({"a": ("F32", (3, 4)), "b": ("F16", (5,))})
    dice = random.Random(1)
    path = tmp_path / "x"
    for _ in range(500):
        content = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        path.write_bytes(content)
        with contextlib.suppress(BadSafetensorsError):
            assert sum(tensor.num_elements for tensor in read_tensors(str(path))) <= len(whole) * 8
