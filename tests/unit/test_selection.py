"""Which files of a repository are brought and loaded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.store import selection
from hugging_llama.store.selection import INDEX, WEIGHTS, NotServableError, weight_files


def _no_index(path: str) -> bytes:
    raise AssertionError(path)


def _index(*names: object) -> bytes:
    return json.dumps({"weight_map": {f"t{number}": name for number, name in enumerate(names)}}).encode()


def test_one_file_wins_over_everything_else() -> None:
    paths = [WEIGHTS, INDEX, "consolidated.safetensors", "model-00001-of-00002.safetensors", "model.fp16.safetensors"]
    assert weight_files(paths, _no_index) == (WEIGHTS,)


def test_shards_are_those_of_the_index() -> None:
    paths = [INDEX, "s2.safetensors", "s1.safetensors", "other.safetensors"]
    found = weight_files(paths, lambda path: _index("s1.safetensors", "s2.safetensors", "s1.safetensors"))
    assert found == ("s1.safetensors", "s2.safetensors")


def test_modules_of_sentence_transformers() -> None:
    paths = ["modules.json", WEIGHTS, "2_Dense/model.safetensors", "onnx/model.safetensors", "a/b/model.safetensors"]
    assert weight_files(paths, _no_index) == ("2_Dense/model.safetensors", WEIGHTS)
    assert weight_files(["modules.json", "0_StaticEmbedding/model.safetensors"], _no_index)
    with pytest.raises(NotServableError):
        weight_files(["0_StaticEmbedding/model.safetensors"], _no_index)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ([], "no safetensors"),
        (["a.Q4_K_M.gguf", "config.json"], "GGUF"),
        (["pytorch_model.bin"], "HUGGING_LLAMA_ALLOW_PICKLE"),
        (
            ["pytorch_model.bin.index.json", "pytorch_model-1.bin", "model.fp16.safetensors"],
            "HUGGING_LLAMA_ALLOW_PICKLE",
        ),
        (["modules.json", "pytorch_model.bin", "2_Dense/model.safetensors"], "HUGGING_LLAMA_ALLOW_PICKLE"),
        (["0_StaticEmbedding/model.safetensors"], "layout of transformers"),
        (["tf_model.h5"], "other formats"),
        (["adapter_model.safetensors"], "adapter"),
        (["adapter_config.json", "adapter_model.bin"], "adapter"),
        (["model_index.json", "unet/model.safetensors"], "diffusion"),
        (["consolidated.safetensors"], "layout of transformers"),
    ],
)
def test_the_reason_is_named(paths: list[str], words: str) -> None:
    with pytest.raises(NotServableError, match=words):
        weight_files(paths, _no_index)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b'{"weight_map": {"a": 1}}',
        b'{"weight_map": {"a": []}}', b"[" * 100_000, _index("../x.safetensors"), _index("/x.safetensors"),
        _index("a/x.safetensors"), _index("x.bin"), _index("x..safetensors"), _index("x\n.safetensors"), b"\xff\xfe",
        _index(*(f"{number}.safetensors" for number in range(10_001))),
    ],
)  # fmt: skip
def test_bad_indexes(text: bytes) -> None:
    with pytest.raises(NotServableError):
        weight_files([INDEX, "a.safetensors"], lambda path: text)


def test_missing_shards() -> None:
    with pytest.raises(NotServableError, match="1 of the 2"):
        weight_files([INDEX, "a.safetensors"], lambda path: _index("a.safetensors", "b.safetensors"))


@given(st.binary(max_size=200))
def test_any_bytes_as_index(text: bytes) -> None:
    with pytest.raises(NotServableError):
        selection.parse_index(text)


@pytest.mark.parametrize(
    "path",
    ["config.json", "tokenizer.model", "merges.txt", "chat_template.jinja", "additional_chat_templates/rag.jinja",
     "1_Pooling/config.json", "qwen.tiktoken", "query_0_WordWeights/config.json"],
)  # fmt: skip
def test_support_files(path: str) -> None:
    assert selection.is_support(path)


@pytest.mark.parametrize(
    "path",
    ["pytorch_model.bin", "model.onnx", "onnx/config.json", "original/params.json", "a.gguf", "x.py", "picture.png",
     "README.md", "LICENSE.txt", "LICENSE", "model.safetensors", "flax_model.msgpack", "tf_model.h5", "data.zip",
     "checkpoint-5/config.json", "a/1_Pooling/config.json", "rust_model.ot", "training_args.bin", "optimizer.pt",
     "trainer_state.json", "eval_results.json", "adapter_model.safetensors", "1_a/config.yaml",
     "pytorch_model.bin.index.json", "flax_model.msgpack.index.json", "model.safetensors.index.fp32.json",
     "model.fp16.safetensors", "runs/events.out.tfevents", "openvino/openvino_model.xml", "consolidated.safetensors"],
)  # fmt: skip
def test_not_support_files(path: str) -> None:
    assert not selection.is_support(path)


def test_pickles_are_a_last_resort() -> None:
    index = _index("pytorch_model-1.bin", "pytorch_model-2.bin")
    shards = ("pytorch_model-1.bin", "pytorch_model-2.bin")
    several = [selection.PICKLED_INDEX, *shards, "optimizer.bin"]
    assert weight_files([selection.PICKLED, *several], _no_index, allow_pickle=True) == (selection.PICKLED,)
    assert weight_files(several, lambda path: index, allow_pickle=True) == shards
    assert weight_files([WEIGHTS, selection.PICKLED, *several], _no_index, allow_pickle=True) == (WEIGHTS,)
    safe = [INDEX, "a.safetensors", selection.PICKLED]
    assert weight_files(safe, lambda path: _index("a.safetensors"), allow_pickle=True) == ("a.safetensors",)
    for name in ("a.safetensors", "../x.bin", "/x.bin", "a.pt"):
        with pytest.raises(NotServableError, match="outside"):
            selection.parse_index(_index(name), selection.PICKLED_INDEX)
    with pytest.raises(NotServableError, match="missing"):
        weight_files([selection.PICKLED_INDEX, shards[0]], lambda path: index, allow_pickle=True)


def test_adapters() -> None:
    needed = ("LICENSE", "README.md", "adapter_config.json", "adapter_model.safetensors")
    paths = [*needed, "adapter_model.bin", "tokenizer.json", "optimizer.pt", "checkpoint-9/adapter_model.safetensors"]
    assert selection.is_adapter(paths)
    assert selection.adapter_files(paths) == needed
    assert not selection.is_adapter([*paths, WEIGHTS])
    assert not selection.is_adapter([WEIGHTS, "config.json"])
    for missing in ("adapter_config.json", "adapter_model.safetensors"):
        with pytest.raises(NotServableError, match=missing):
            selection.adapter_files(set(paths) - {missing})


def test_documents() -> None:
    assert all(
        map(selection.is_document, ["LICENSE", "LICENSE.txt", "licence.md", "README.md", "NOTICE", "USE_POLICY.md"])
    )
    assert not any(map(selection.is_document, ["a/LICENSE", "license_checker.py.zip/x", "config.json"]))
