"""Headers of GGUF files: read, and never believed unseen."""

import contextlib
import random
import struct
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import gguf
import pytest

from hugging_llama.store import gguf_header
from hugging_llama.store.gguf_header import BLOCKS, BadGgufError, GgufHeader, read_floats, read_header
from tests.gguf_files import make_small, write_gguf

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def strings(*values: str) -> bytes:
    return struct.pack("<IQ", STRING, len(values)) + b"".join(map(text, values))


def tensor(name: str = "a.weight", shape: tuple[int, ...] = (32, 2), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ARCHITECTURE = pair("general.architecture", STRING, text("llama"))
TOKENS = pair("tokenizer.ggml.tokens", ARRAY, strings("a", "b"))


def document(
    *, extra: tuple[bytes, ...] = (), tensors: tuple[bytes, ...] = (tensor(),), magic: bytes = b"GGUF", **changes: int
) -> bytes:
    """A file of one tensor of 256 bytes, with `changes` to what its first lines say."""
    pairs = (ARCHITECTURE, TOKENS, *extra)
    counts = {"version": 3, "num_tensors": len(tensors), "num_keys": len(pairs), "data": 256} | changes
    head = magic + struct.pack("<IQQ", counts["version"], counts["num_tensors"], counts["num_keys"])
    head += b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(counts["data"])


def parsed(path: Path, content: bytes) -> GgufHeader:
    path.write_bytes(content)
    return read_header(str(path))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    return write_gguf(folder / "model.gguf", "Q8_0", make_small(folder / "source"))


def test_a_model_as_llama_cpp_writes_it(small: Path) -> None:
    header = read_header(str(small))
    reader = gguf.GGUFReader(small)
    assert header.architecture == "llama"
    assert "<|im_start|>" in header.chat_template
    assert header.arrays["tokenizer.ggml.tokens"] == 260
    assert header.metadata["llama.block_count"] == 2
    assert [(tensor.name, tensor.offset, tensor.num_bytes) for tensor in header.tensors] == [
        (tensor.name, tensor.data_offset, tensor.n_bytes) for tensor in reader.tensors
    ]
    assert sum(tensor.num_elements for tensor in header.tensors) == sum(tensor.n_elements for tensor in reader.tensors)
    assert (header.kind, header.dtype) == ("Q8_0", "bfloat16")


def test_types_are_those_of_llama_cpp() -> None:
    assert {int(kind): (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType} == BLOCKS


@pytest.mark.parametrize(
    ("kind", "dtype"), [(0, "float32"), (1, "float16"), (30, "bfloat16"), (8, "bfloat16"), (12, "bfloat16")]
)
def test_weights_keep_their_type_unless_quantised(tmp_path: Path, kind: int, dtype: str) -> None:
    matrix = tensor("m", (256, 4), kind, 32)
    assert parsed(tmp_path / "x", document(tensors=(tensor("n", (8,)), matrix), data=8192)).dtype == dtype


def test_the_smallest_file(tmp_path: Path) -> None:
    header = parsed(tmp_path / "x", document())
    assert header.chat_template == ""
    assert header.arrays == {"tokenizer.ggml.tokens": 2}
    assert parsed(tmp_path / "x", document(version=2)) == header
    assert parsed(tmp_path / "x", document(data=300)).tensors == header.tensors


def test_long_texts_are_not_kept(tmp_path: Path) -> None:
    header = parsed(tmp_path / "x", document(extra=(pair("tokenizer.huggingface.json", STRING, text("x" * 2**21)),)))
    assert header.metadata["tokenizer.huggingface.json"] == ""


@pytest.mark.parametrize(
    "content",
    [
        b"", b"GGUF", b"\x89PNG" + bytes(100), document(magic=b"GGML"),
        document(version=1), document(version=4), document(version=3 << 24),
        document(num_tensors=0), document(num_tensors=2), document(num_tensors=2**63), document(num_keys=0),
        document(num_keys=2**63), document(num_keys=3),
        document(data=255), document(data=0), document(extra=(ARCHITECTURE,)), document(extra=(TOKENS,)),
        document(extra=(pair("", U32, bytes(4)),)), document(extra=(pair("x" * 300, U32, bytes(4)),)),
        document(extra=(pair(b"\xff", U32, bytes(4)),)), document(extra=(pair("x", STRING, text(b"\xff")),)),
        document(extra=(pair("x", 13, bytes(4)),)), document(extra=(pair("x", 2**32 - 1, bytes(4)),)),
        document(extra=(pair("x", BOOL, b"\x02"),)), document(extra=(pair("x", STRING, struct.pack("<Q", 2**63)),)),
        document(extra=(pair("x", ARRAY, struct.pack("<IQ", STRING, 2**62)),)),
        document(extra=(pair("x", ARRAY, struct.pack("<IQ", F32, 2**62)),)),
        document(extra=(pair("x", ARRAY, struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQ", U32, 0)),)),
        document(extra=(pair("x", ARRAY, struct.pack("<IQQ", STRING, 1, 2**63)),)),
        document(extra=(pair("x", ARRAY, struct.pack("<IQ", 0, 5 * 2**20) + bytes(5 * 2**20)),)),
        document(extra=(pair("general.alignment", U32, bytes(4)),)),
        document(extra=(pair("general.alignment", U32, struct.pack("<I", 24)),)),
        document(extra=(pair("general.alignment", U64, struct.pack("<Q", 2**40)),)),
        document(extra=(pair("general.alignment", STRING, text("32")),)),
        document(extra=(pair("tokenizer.chat_template", U32, bytes(4)),)),
        document(extra=(pair("llama.block_count", U32, b"\xff" * 4),)),
        document(extra=(pair("llama.block_count", F32, bytes(4)),)),
        document(extra=(pair("llama.embedding_length", U64, struct.pack("<Q", 2**40)),)),
        document(tensors=(tensor("",),)), document(tensors=(tensor("x" * 65),)), document(tensors=(tensor(shape=()),)),
        document(tensors=(tensor(shape=(2,) * 5),)), document(tensors=(tensor(shape=(32, 0)),)),
        document(tensors=(tensor(shape=(2**63, 2**63)),)), document(tensors=(tensor(shape=(2**40, 32)),)),
        document(tensors=(tensor(kind=4),)), document(tensors=(tensor(kind=2**31),)),
        document(tensors=(tensor(shape=(31, 2), kind=8),)), document(tensors=(tensor(offset=1),)),
        document(tensors=(tensor(offset=2**63),)), document(tensors=(tensor(offset=2**64 - 32),)),
        document(tensors=(tensor(), tensor())), document(tensors=(tensor(), tensor("b", offset=32)), data=1024),
    ],
)  # fmt: skip
def test_bad_headers(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadGgufError) as caught:
        parsed(tmp_path / "x", content)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "count", "num_rows", "is_read"),
    [
        ("x", 2**14, 0, True),
        ("x", 2**14 + 1, 0, False),
        ("tokenizer.ggml.merges", 2**14 + 6 * 500, 1000, True),
        ("tokenizer.ggml.merges", 2**14 + 6 * 500 + 1, 1000, False),
        ("tokenizer.ggml.merges", 2**14 + 6 * 400 + 1, 400, False),
        ("tokenizer.ggml.precompiled_charsmap", 2**19, 0, True),
        ("tokenizer.ggml.precompiled_charsmap", 2**19 + 1, 0, False),
    ],
)
def test_arrays_are_as_long_as_a_vocabulary_needs(
    tmp_path: Path, key: str, count: int, num_rows: int, is_read: bool
) -> None:
    tokens = pair("tokenizer.ggml.tokens", ARRAY, strings(*["x"] * 500))
    if key != "tokenizer.ggml.precompiled_charsmap":
        count -= 500
    array = pair(key, ARRAY, struct.pack("<IQ", 0, count) + bytes(count))
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 3) + ARCHITECTURE + tokens + array
    head += tensor("token_embd.weight", (1, num_rows)) if num_rows else tensor()
    with nullcontext() if is_read else pytest.raises(BadGgufError, match="longer than its vocabulary needs"):
        parsed(tmp_path / "x", head + bytes(-len(head) % 32) + bytes(4000))


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ((TOKENS,), "architecture"),
        ((pair("general.architecture", STRING, text("")), TOKENS), "architecture"),
        ((pair("general.architecture", STRING, text("../x")), TOKENS), "architecture"),
        ((pair("general.architecture", U32, bytes(4)), TOKENS), "architecture"),
        ((ARCHITECTURE,), "vocabulary"),
        ((ARCHITECTURE, TOKENS, pair("general.type", STRING, text("adapter"))), "adapter"),
        ((ARCHITECTURE, TOKENS, pair("general.type", STRING, text("mmproj"))), "another part"),
        ((ARCHITECTURE, TOKENS, pair("split.count", 2, struct.pack("<H", 3))), "--merge"),
    ],
)
def test_what_is_no_whole_language_model(tmp_path: Path, pairs: tuple[bytes, ...], words: str) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor()
    with pytest.raises(BadGgufError, match=words):
        parsed(tmp_path / "x", head + bytes(-len(head) % 32) + bytes(256))


def test_a_header_of_any_size_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_header, "MAX_HEADER_BYTES", 2**16)
    with pytest.raises(BadGgufError, match="too much"):
        parsed(tmp_path / "x", document(extra=(pair("x", STRING, text("x" * 2**17)),)))


def test_small_tensors_of_floats(tmp_path: Path) -> None:
    path = tmp_path / "x"
    header = parsed(path, document(tensors=(tensor("f", (4,)),), data=0) + struct.pack("<4f", 1, 2, 0.5, -1))
    assert read_floats(str(path), header.tensors[0]) == [1, 2, 0.5, -1]
    for content in (
        document(tensors=(tensor("f", (4,)),), data=0) + struct.pack("<4f", 1, 2, float("nan"), -1),
        document(tensors=(tensor("f", (4, 1)),)),
        document(tensors=(tensor("f", (4,), kind=1),)),
        document(tensors=(tensor("f", (2**15,)),), data=2**17),
    ):
        header = parsed(path, content)
        with pytest.raises(BadGgufError):
            read_floats(str(path), header.tensors[0])


def flip(content: bytearray, dice: random.Random, limit: int) -> None:
    content[dice.randrange(limit)] = dice.randrange(256)


def cut(content: bytearray, dice: random.Random, limit: int) -> None:
    del content[dice.randrange(limit) :]


def enlarge(content: bytearray, dice: random.Random, limit: int) -> None:
    place = dice.randrange(limit - 8)
    content[place : place + 8] = struct.pack("<Q", dice.choice([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))


@pytest.mark.parametrize("damage", [flip, cut, enlarge])
def test_damaged_files_are_read_or_refused(
    small: Path, tmp_path: Path, damage: Callable[[bytearray, random.Random, int], None]
) -> None:
    whole = small.read_bytes()
    table = min(tensor.offset for tensor in read_header(str(small)).tensors)
    dice = random.Random(1)
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        damage(content, dice, table)
        (tmp_path / "x").write_bytes(content)
        with contextlib.suppress(BadGgufError):
            header = read_header(str(tmp_path / "x"))
            assert all(tensor.offset + tensor.num_bytes <= len(content) for tensor in header.tensors)
            continue
        refused += 1
    assert refused > 30
