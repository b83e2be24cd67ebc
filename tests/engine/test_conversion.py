"""Weights in other formats become safetensors: the same numbers, the same text, and nothing that was not understood."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaConfig

from hugging_llama.engine.conversion import convert
from hugging_llama.engine.conversion_rope import restore_rope_scaling
from hugging_llama.engine.loader import Loader
from hugging_llama.errors import HuggingLlamaError, InsufficientMemoryError, InvalidRequestError, TransferError
from hugging_llama.neutral.conversion import ConversionRequest
from hugging_llama.store import conversion_plan
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import DEMO, byte_tokenizer, edit_json, make_checkpoint
from tests.engine.tiny_models import generate_greedy
from tests.gguf_files import make_small, write_gguf

PROMPT = [1, 70, 300, 12, 1500, 8, 9, 42]
TEXTS = ("Once upon a time, there was", "<|im_start|>user\nHello, Wörld!<|im_end|>", "a  b\n\n c 123 <think>")


def planned(file: Path, target: Path) -> ConversionRequest:
    """What the server would ask for."""
    plan = conversion_plan.make_plan({"x.gguf": "0" * 64}, lambda digest: str(file), allow_pickle=False)
    assert plan.gguf is not None
    source = target.parent / "source"
    source.mkdir(exist_ok=True)
    link = source / plan.gguf.file
    link.unlink(missing_ok=True)
    link.symlink_to(file)
    target.mkdir(exist_ok=True)
    return ConversionRequest(
        source=str(source),
        target=str(target),
        weight_bytes=plan.weight_bytes,
        largest_bytes=plan.largest_bytes,
        gguf=plan.gguf,
    )


def converted(file: Path, target: Path) -> Path:
    convert(planned(file, target))
    return target


def refused(file: Path, target: Path) -> str:
    with pytest.raises(HuggingLlamaError) as caught:
        converted(file, target)
    assert str(target.parent) not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("F16", torch.float16), ("Q8_0", torch.bfloat16), ("Q4_0", torch.bfloat16)],
)
def test_text_is_that_of_the_gguf_file(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    file = write_gguf(tmp_path / "x.gguf", kind)
    folder = converted(file, tmp_path / "target")
    direct: Any = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    ours: Any = AutoModelForCausalLM.from_pretrained(folder)
    assert ours.dtype is dtype
    assert generate_greedy(ours, PROMPT, 24) == generate_greedy(direct.to(dtype), PROMPT, 24)
    checkpoint = Loader(Settings(device="cpu", dtype="float32")).load(str(folder))
    assert generate_greedy(checkpoint.model, PROMPT, 24) == generate_greedy(direct.to(dtype).float(), PROMPT, 24)
    assert checkpoint.eos_token_ids == {2}


def test_weights_are_those_that_the_gguf_file_was_made_of(tmp_path: Path) -> None:
    folder = converted(write_gguf(tmp_path / "x.gguf", "BF16"), tmp_path / "target")
    before, after = load_file(DEMO / "model.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    config = json.loads((folder / "config.json").read_text())
    demo = json.loads((DEMO / "config.json").read_text())
    kept = ("architectures", "hidden_size", "rope_parameters", "tie_word_embeddings", "bos_token_id", "eos_token_id")
    assert {key: config[key] for key in kept} == {key: demo[key] for key in kept}


def test_the_tokenizer_and_its_template_come_along(tmp_path: Path) -> None:
    folder = converted(write_gguf(tmp_path / "x.gguf"), tmp_path / "target")
    ours, demo = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(DEMO)
    assert ours.chat_template == demo.chat_template
    assert ours.get_vocab() == demo.get_vocab()
    for text in TEXTS:
        assert ours.decode(ours(text).input_ids) == text
    assert ours(TEXTS[1]).input_ids[0] == demo(TEXTS[1]).input_ids[0] == 1


def test_every_end_of_an_answer_is_known(tmp_path: Path) -> None:
    folder = converted(write_gguf(tmp_path / "x.gguf", add_eot_token_id=1), tmp_path / "target")
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [2, 1]
    folder = converted(write_gguf(tmp_path / "x.gguf", add_eot_token_id=2**31), tmp_path / "target2")
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2


def test_a_vocabulary_without_the_unknown_token_of_its_class(tmp_path: Path) -> None:
    source = make_small(tmp_path / "small")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    (source / "tokenizer.json").write_text(json.dumps(tokenizer).replace("<|endoftext|>", "<|pad|>"))
    edit_json(source / "tokenizer_config.json", pad_token="<|pad|>")
    folder = converted(write_gguf(tmp_path / "x.gguf", "F16", source), tmp_path / "target")
    assert len(AutoTokenizer.from_pretrained(folder)) == 260
    assert max(AutoTokenizer.from_pretrained(folder)("a<|endoftext|>b").input_ids) < 260


def test_an_architecture_that_transformers_does_not_read(tmp_path: Path) -> None:
    message = refused(write_gguf(tmp_path / "x.gguf", architecture="plamo"), tmp_path / "target")
    assert "'plamo'" in message
    assert "llama, " in message
    assert "tokenizer" not in message
    message = refused(write_gguf(tmp_path / "x.gguf", architecture="t5encoder"), tmp_path / "target")
    assert "'t5encoder'" in message


def add_tensor(writer: gguf.GGUFWriter, name: str) -> None:
    writer.add_tensor(name, torch.zeros(256).numpy())


def test_weights_that_would_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf.GGUFWriter, "add_stray", add_tensor, raising=False)
    file = write_gguf(tmp_path / "x.gguf", add_stray="blk.0.attn_q.bias")
    assert "can't be converted" in refused(file, tmp_path / "target")


def test_weights_that_are_missing(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "x.gguf", leave_out=("blk.1.ffn_up.weight",))
    assert "missing" in refused(file, tmp_path / "target")


def test_what_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hugging_llama.engine.memory.free_bytes", lambda device: 1000)
    file = write_gguf(tmp_path / "x.gguf")
    with pytest.raises(InsufficientMemoryError, match="1000 are free"):
        converted(file, tmp_path / "target")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device", "/secret")

    monkeypatch.undo()
    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    with pytest.raises(TransferError, match="no space"):
        converted(file, tmp_path / "target")


def llama3_factors(theta: float, factor: float, half: int) -> list[float]:
    """As convert_hf_to_gguf.py computes them."""
    found = []
    for number in range(half):
        wavelength = 2 * math.pi / (1 / theta ** (2 * number / (2 * half)))
        if wavelength < 8192 / 4:
            found.append(1.0)
        elif wavelength > 8192:
            found.append(factor)
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def rope(scaling: dict[str, Any], factors: Sequence[float] = ()) -> dict[str, Any]:
    config = LlamaConfig(rope_parameters={"rope_type": "default", "rope_theta": 500_000.0})
    restore_rope_scaling(config, scaling, factors)
    parameters: dict[str, Any] = config.rope_parameters  # type: ignore[assignment]
    return parameters


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_positions_of_llama_3(factor: float) -> None:
    assert rope({}, llama3_factors(500_000.0, factor, 64)) == {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def test_other_scaled_positions() -> None:
    assert rope({}) == rope({"type": "none"}) == {"rope_type": "default", "rope_theta": 500_000.0}
    assert rope({"type": "linear", "factor": 4.0})["factor"] == 4.0
    yarn = rope({"type": "yarn", "factor": 4.0, "original_context_length": 32768})
    assert (yarn["rope_type"], yarn["original_max_position_embeddings"]) == ("yarn", 32768)


@pytest.mark.parametrize(
    ("scaling", "factors"),
    [
        ({"type": "longrope", "factor": 4.0}, ()),
        ({"type": "yarn", "factor": 4.0}, ()),
        ({"type": "linear"}, ()),
        ({"type": "linear", "factor": -1.0}, ()),
        ({"type": "linear", "factor": float("nan")}, ()),
        ({"type": 5, "factor": 2.0}, ()),
        ({}, [1.0, 2.0, 3.0]),
        ({}, [0.0] * 64),
        ({}, [-1e30] * 64),
    ],
)
def test_positions_that_can_not_be_converted(scaling: dict[str, Any], factors: Sequence[float]) -> None:
    with pytest.raises(InvalidRequestError, match="positions"):
        rope(scaling, factors)


def pickled(folder: Path, values: dict[str, Any]) -> ConversionRequest:
    """A request for the files of `values`: name -> what torch saves, or bytes."""
    source, target = folder / "source", folder / "target"
    source.mkdir()
    target.mkdir()
    for name, value in values.items():
        if isinstance(value, bytes):
            (source / name).write_bytes(value)
        else:
            torch.save(value, source / name)
    size = sum(file.stat().st_size for file in source.iterdir())
    return ConversionRequest(source=str(source), target=str(target), weight_bytes=size, largest_bytes=size)


def test_pickled_weights(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model", byte_tokenizer())
    weights = load_file(model / "model.safetensors")
    state = weights | {"tied": weights["lm_head.weight"], "turned": weights["lm_head.weight"].t()}
    request = pickled(tmp_path, {"pytorch_model.bin": state})
    convert(request)
    after = load_file(tmp_path / "target" / "model.safetensors")
    assert after.keys() == state.keys()
    assert all(torch.equal(state[name], after[name]) for name in state)
    (model / "model.safetensors").unlink()
    (tmp_path / "target" / "model.safetensors").rename(model / "model.safetensors")
    Loader(Settings(device="cpu")).load(str(model))


def test_pickled_shards_and_the_old_format(tmp_path: Path) -> None:
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    index = json.dumps({"weight_map": dict(zip("ab", names, strict=True))}).encode()
    request = pickled(tmp_path, {names[0]: {"a": torch.ones(3)}, "pytorch_model.bin.index.json": index})
    torch.save({"b": torch.arange(4)}, tmp_path / "source" / names[1], _use_new_zipfile_serialization=False)
    convert(request)
    target = tmp_path / "target"
    written = json.loads((target / "model.safetensors.index.json").read_text())
    assert written["metadata"]["total_size"] == 44
    for name, value in {"a": torch.ones(3), "b": torch.arange(4)}.items():
        assert torch.equal(load_file(target / written["weight_map"][name])[name], value)


class Evil:
    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._mark,))


@pytest.mark.parametrize(
    "value",
    [
        [torch.ones(2)], {}, {"a": 1}, {1: torch.ones(2)}, {"": torch.ones(2)}, {"x" * 600: torch.ones(2)},
        {"a": {"b": torch.ones(2)}}, {"a": torch.ones(1).expand(2**22)}, {"a": torch.eye(2).to_sparse()},
        {"a": torch.ones(2, dtype=torch.complex64)}, {"a": torch.empty(2, device="meta")},
        b"", b"PK\x03\x04", b"x" * 99,
    ],
)  # fmt: skip
def test_pickles_of_something_else(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        convert(pickled(tmp_path, {"pytorch_model.bin": value}))
    assert str(tmp_path) not in caught.value.message


def test_a_pickle_with_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(InvalidRequestError):
        convert(pickled(tmp_path, {"pytorch_model.bin": {"a": Evil(mark)}}))
    assert not mark.exists()


@pytest.mark.parametrize(
    "weight_map", [None, [], {"a": 5}, {"a": "../x.bin"}, {"a": "pytorch_model-1-of-2.bin"}, {"a": "/etc/passwd"}]
)
def test_bad_indexes_of_pickles(tmp_path: Path, weight_map: Any) -> None:
    index = json.dumps({"weight_map": weight_map}).encode()
    with pytest.raises(InvalidRequestError):
        convert(pickled(tmp_path, {"pytorch_model.bin.index.json": index}))
