"""Headers of weight files: read, and never believed unseen."""

import contextlib
import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.store.safetensors_header import (
    BadSafetensorsError,
    TooManyTensorsError,
    data_bytes,
    read_all_tensors,
    read_tensors,
)
from hugging_llama_config.model_limits import MOST_TENSORS
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
        {"__metadata__": {"a": 1}, **_tensor()}, {"__metadata__": [], **_tensor()}, {"__metadata__": "a", **_tensor()},
        {"empty": _tensor(shape=[2**62, 2**62, 0], offsets=[0, 0])["t"], **_tensor()},
        {"empty": _tensor(shape=[2**70, 0], offsets=[0, 0])["t"], **_tensor()},
        {"empty": _tensor(shape=[0, 2**70], offsets=[0, 0])["t"], **_tensor()},
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


@pytest.mark.parametrize(
    "header",
    [
        b'{"t": %s, "\\u0074": %s}',
        b'{"t": 5, "t": %s}',
        b'{"__metadata__": {"a": "b"}, "t": %s, "__metadata__": {}}',
        b'{"t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "shape": [1]}}',
        b'{"t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "\\u0073hape": [1]}}',
    ],
)
def test_names_that_stand_twice_in_other_ways(tmp_path: Path, header: bytes) -> None:
    header = header.replace(b"%s", json.dumps(_tensor()["t"]).encode())
    with pytest.raises(BadSafetensorsError):
        read_tensors(_file(tmp_path / "x", header, b"1234"))


@pytest.mark.parametrize("name", ["t", "dtype", 'a"b', "\\", "\u00e9", "{"])
@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"shape": '{"a": "\\\\"}'}])
def test_any_name_beside_any_metadata(tmp_path: Path, name: str, metadata: dict[str, str] | None) -> None:
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    header[name] = {**_tensor()["t"], "more": 1}
    assert read_tensors(_file(tmp_path / "x", header, b"1234")) == [StoredTensor(name, "F32", (1,))]


def _many(path: Path, number: int, first: int = 0) -> str:
    entry = _tensor(shape=[0], offsets=[0, 0])["t"]
    return _file(path, {f"model.layers.{at}.weight": entry for at in range(first, first + number)})


def test_as_many_tensors_as_a_model_may_have(tmp_path: Path) -> None:
    tensors = read_tensors(_many(tmp_path / "x", MOST_TENSORS))
    assert (len(tensors), data_bytes(tensors)) == (MOST_TENSORS, 0)
    with pytest.raises(TooManyTensorsError, match=f"more than {MOST_TENSORS} tensors"):
        read_tensors(_many(tmp_path / "x", MOST_TENSORS + 1))


def test_all_files_of_a_model_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hugging_llama.store.safetensors_header.MOST_TENSORS", 10)
    paths = [_many(tmp_path / str(number), 5, first=5 * number) for number in range(3)]
    assert len(read_all_tensors(paths[:2])) == 10
    with pytest.raises(TooManyTensorsError):
        read_all_tensors(paths)


@pytest.mark.parametrize("text", [b'"a":0,', b'"a":{},'])
def test_headers_without_end_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr("hugging_llama.store.safetensors_header._HEADER", None)
    with pytest.raises(TooManyTensorsError):
        read_tensors(_file(tmp_path / "x", b"{" + 4_000_000 * text + b"}"))


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
