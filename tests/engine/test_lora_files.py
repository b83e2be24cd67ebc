"""Adapters from strangers: what is no plain LoRA adapter of this model is refused by name, and no path is told."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from hugging_llama.engine.lora.cache import AdapterCache
from hugging_llama.engine.lora.files import vet_adapter
from hugging_llama.errors import ModelLoadError
from tests.engine.adapters import make_adapter
from tests.engine.checkpoints import edit_json
from tests.engine.families import make_family
from tests.engine.tiny_models import make_model

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


@pytest.fixture
def folder(model: PreTrainedModel, tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "adapter", model, ("q_proj", "v_proj"))


def refusal(model: PreTrainedModel, folder: Path) -> str:
    """What the user is told."""
    with pytest.raises(ModelLoadError) as caught:
        AdapterCache(model, budget_bytes=2**30).take(str(folder))
    assert str(folder) not in caught.value.message
    return caught.value.message


def edit_weights(folder: Path, edit: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"peft_type": "IA3"}, "not IA3"),
        ({"peft_type": None}, "type LORA"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "bias"),
        ({"something_new": {"a": 1}}, "something_new"),
        ({"/etc/passwd": True}, "something else"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "loftq"}, "loftq"),
        ({"r": 5}, "is 4, its adapter_config.json says 5"),
        ({"r": "x\n/y"}, "something else"),
        ({"rank_pattern": {"q_proj": 7}}, "says 7"),
        ({"rank_pattern": [1]}, "rank_pattern"),
        ({"lora_alpha": 1e300}, "lora_alpha"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"lora_alpha": True}, "lora_alpha"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "regular expression"),
        ({"target_modules": ["q_proj"]}, "model.layers.0.self_attn.v_proj"),
        ({"target_modules": [["q_proj"]]}, "does not name"),
    ],
)
def test_a_config_that_means_something_else(
    model: PreTrainedModel, folder: Path, values: dict[str, Any], told: str
) -> None:
    edit_json(folder / CONFIG, **values)
    assert told in refusal(model, folder)


@pytest.mark.parametrize(
    "values",
    [
        {"base_model_name_or_path": "another/name", "revision": "x", "peft_version": "9", "lora_dropout": 0.3},
        {"target_modules": "all-linear", "runtime_config": {"ephemeral_gpu_offload": False}},
        {"target_modules": ".*(a+)+$", "init_lora_weights": "gaussian", "layers_to_transform": [0, 1]},
        {"alpha_pattern": {"self_attn\\.q_proj": 3, "^model.layers.0.self_attn.v_proj": 1}, "rank_pattern": {}},
    ],
)
def test_a_config_that_changes_nothing_or_what_is_done(
    model: PreTrainedModel, folder: Path, values: dict[str, Any]
) -> None:
    edit_json(folder / CONFIG, **values)
    assert AdapterCache(model, budget_bytes=2**30).take(str(folder)).factors


def test_alphas_and_ranks_by_module(model: PreTrainedModel, tmp_path: Path) -> None:
    folder = make_adapter(
        tmp_path,
        model,
        ("q_proj", "v_proj"),
        rank_pattern={"v_proj": 9},
        alpha_pattern={"layers.1.self_attn.q_proj": 1, "q_proj": 2, "^model.layers.0.self_attn.v_proj": 18},
    )
    shapes = vet_adapter(str(folder)).shapes
    found = {
        name: (shapes[f"model.layers.{name}"].r, shapes[f"model.layers.{name}"].scale)
        for name in ("0.self_attn.q_proj", "1.self_attn.q_proj", "0.self_attn.v_proj", "1.self_attn.v_proj")
    }
    assert found == {
        "0.self_attn.q_proj": (4, 2 / 4),
        "1.self_attn.q_proj": (4, 1 / 4),
        "0.self_attn.v_proj": (9, 18 / 9),
        "1.self_attn.v_proj": (9, 8 / 9),
    }
    edit_json(folder / CONFIG, use_rslora=True)
    assert vet_adapter(str(folder)).shapes["model.layers.1.self_attn.v_proj"].scale == 8 / 3


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("base_model.model.model.embed_tokens.lora_embedding_A", "lora_embedding_A"),
        (f"{Q}.lora_magnitude_vector", "lora_magnitude_vector"),
        (f"{Q}.lora_A.bias", "lora_A.bias"),
        (f"{Q}.lora_A.default.weight", "lora_A.default.weight"),
        ("base_model.model.lm_head.weight", "lm_head.weight"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "no LoRA weight"),
        ("base_model.model.../../x.lora_A.weight", "something else"),
    ],
)
def test_tensors_that_are_no_lora_weights(model: PreTrainedModel, folder: Path, name: str, told: str) -> None:
    edit_weights(folder, lambda tensors: tensors.update({name: torch.zeros(4, 64)}))
    assert told in refusal(model, folder)


def test_tensors_that_do_not_fit(model: PreTrainedModel, folder: Path, tmp_path: Path) -> None:
    def other(name: str, edit: Callable[[dict[str, Tensor]], None], **config: Any) -> str:
        copy = make_adapter(tmp_path / name, model, ("q_proj",), **config)
        edit_weights(copy, edit)
        return refusal(model, copy)

    a, b = f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"
    assert "don't fit together" in other("a", lambda tensors: tensors.update({b: torch.zeros(64, 3)}))
    assert "don't fit together" in other("b", lambda tensors: tensors.update({b: tensors.pop(b)[:, :0]}))
    assert "don't fit together" in other("c", lambda tensors: tensors.update({a: torch.zeros(4)}))
    assert "64 by 32, and here it is 64 by 64" in other("d", lambda t: t.update({a: torch.zeros(4, 32)}))
    assert "type" in other("e", lambda tensors: tensors.update({a: torch.zeros(4, 64, dtype=torch.int8)}))
    assert "no finite numbers" in other("f", lambda tensors: tensors.update({a: torch.full((4, 64), torch.inf)}))
    assert "no weights" in other("g", lambda tensors: tensors.clear())


def test_modules_that_the_model_does_not_have(folder: Path) -> None:
    assert "no linear layer model.layers.0.self_attn.q_proj" in refusal(make_model("gpt2"), folder)
    edit_weights(
        folder, lambda tensors: tensors.update({Q.replace(".0.", ".3.") + ".lora_A.weight": torch.zeros(4, 64)})
    )
    edit_weights(
        folder, lambda tensors: tensors.update({Q.replace(".0.", ".3.") + ".lora_B.weight": torch.zeros(64, 4)})
    )
    assert "no linear layer model.layers.3.self_attn.q_proj" in refusal(make_model("llama"), folder)


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_missing_files(model: PreTrainedModel, folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    assert f"no {missing}" in refusal(model, folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_files_that_are_none(model: PreTrainedModel, folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert f"no {name}" in refusal(model, folder)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x10\x00\x00\x00\x00\x00\x00\x00{broken", b"[]"])
def test_damaged_files(model: PreTrainedModel, folder: Path, content: bytes) -> None:
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content)
    assert "damaged" in refusal(model, folder)
    (folder / WEIGHTS).write_bytes(weights[: len(weights) // 2])
    assert "damaged" in refusal(model, folder)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / CONFIG).write_bytes(content)
    assert "damaged" in refusal(model, folder)


def test_pickled_weights_are_not_read(model: PreTrainedModel, folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    assert f"no {WEIGHTS}" in refusal(model, folder)


def test_layers_that_are_not_computed_row_by_row_are_refused(tmp_path: Path) -> None:
    model = make_family("llama")
    first: Any = model.get_submodule("model.layers.0.mlp")
    # as layers of experts do: some of the rows
    first.forward = lambda x: torch.nn.functional.pad(first.down_proj(first.up_proj(x)[:, 1:]), (0, 0, 1, 0))
    folder = make_adapter(tmp_path / "down", model, ("down_proj",))
    assert "computes model.layers.0.mlp.down_proj in a way that adapters can't change" in refusal(model, folder)
    # never called at all
    folder = make_adapter(tmp_path / "gate", model, ("gate_proj",))
    assert "computes model.layers.0.mlp.gate_proj in a way" in refusal(model, folder)
    folder = make_adapter(tmp_path / "up", model, ("up_proj",))
    assert AdapterCache(model, budget_bytes=2**30).take(str(folder)).factors


def test_layers_in_another_number_format_are_refused(tmp_path: Path) -> None:
    model = make_model("llama", dtype=torch.bfloat16)
    layer: Any = model.get_submodule("model.layers.0.mlp.down_proj").float()
    plain = layer.forward
    layer.forward = lambda x: plain(x).bfloat16()
    layer.register_forward_pre_hook(lambda module, args: (args[0].float(),))
    assert "in a way that adapters can't change" in refusal(model, make_adapter(tmp_path, model, ("down_proj",)))


def test_a_layer_at_two_places_is_refused(tmp_path: Path) -> None:
    model = make_model("llama")
    layers: Any = model.get_submodule("model.layers")
    layers[1].self_attn.q_proj = layers[0].self_attn.q_proj
    assert "several places" in refusal(model, make_adapter(tmp_path, model, ("q_proj",)))


def test_the_config_may_not_be_huge(model: PreTrainedModel, folder: Path) -> None:
    with open(folder / CONFIG, "ab") as file:
        file.truncate(2**30)
    assert "too large" in refusal(model, folder)
    (folder / CONFIG).write_text("[" * 100_000)
    assert "nested too deeply" in refusal(model, folder)
    (folder / CONFIG).write_text(json.dumps([1]))
    assert "damaged" in refusal(model, folder)
