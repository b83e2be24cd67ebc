"""What transformers would build for a configuration, found without memory; what would take for ever is refused."""

import threading
from typing import Any

import pytest
import torch
from transformers import AutoModel, DistilBertConfig, GPTJConfig, RoFormerConfig, SwinConfig

from hugging_llama.engine import built_size
from hugging_llama.engine.built_size import check_built_size
from hugging_llama.errors import ModelLoadError

SMALL: dict[str, Any] = {"vocab_size": 64, "dim": 8, "hidden_dim": 8, "n_heads": 1, "n_layers": 1}
MANY = 2**40


def test_building_ends_with_too_many_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built_size, "_MOST_MODULES", 500)
    modules = torch.nn.ModuleList()

    class Counted:
        @staticmethod
        def from_config(config: Any) -> torch.nn.Module:
            return modules.extend(torch.nn.Identity() for _ in range(10_000))

    with pytest.raises(ModelLoadError, match="does not fit its weights"):
        check_built_size(Counted, None, MANY)
    assert len(modules) == 500
    with pytest.raises(ModelLoadError, match="does not fit its weights"):
        check_built_size(AutoModel, SwinConfig(depths=[50, 50]), MANY)
    check_built_size(AutoModel, DistilBertConfig(**SMALL), MANY)


def test_other_threads_and_later_models_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built_size, "_MOST_MODULES", 50)
    counts: list[int] = []

    def make() -> None:
        counts.append(len(torch.nn.Sequential(*(torch.nn.Identity() for _ in range(100)))))

    class Beside:
        @staticmethod
        def from_config(config: Any) -> torch.nn.Module:
            thread = threading.Thread(target=make)
            thread.start()
            thread.join()
            return torch.nn.Identity()

    check_built_size(Beside, None, MANY)
    make()
    assert counts == [100, 100]


@pytest.mark.parametrize(
    "config",
    [
        DistilBertConfig(**SMALL, sinusoidal_pos_embds=True, max_position_embeddings=2**20),
        RoFormerConfig(
            vocab_size=64, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
            max_position_embeddings=2**20,
        ),
    ],
)  # fmt: skip
def test_tables_of_sines(config: Any) -> None:
    """They are no weights: the library computes number after number, in Python."""
    with pytest.raises(ModelLoadError, match="does not fit its weights"):
        check_built_size(AutoModel, config, MANY)
    config.max_position_embeddings = 512
    check_built_size(AutoModel, config, MANY)


def test_tables_of_positions_are_no_weights_and_have_a_bound_of_their_own() -> None:
    sizes: dict[str, Any] = {"vocab_size": 64, "n_embd": 128, "n_layer": 1, "n_head": 1, "rotary_dim": 128}
    with pytest.raises(ModelLoadError, match="does not fit its weights"):
        check_built_size(AutoModel, GPTJConfig(**sizes, n_positions=2**22), MANY)
    check_built_size(AutoModel, GPTJConfig(**sizes, n_positions=2**17), MANY)


def test_a_byte_holds_one_weight_where_none_are_packed() -> None:
    config = DistilBertConfig(**SMALL, max_position_embeddings=2**20)
    with pytest.raises(ModelLoadError, match="does not fit its weights"):
        check_built_size(AutoModel, config, 2**22)
    config.quantization_config = {"quant_method": "gptq"}
    check_built_size(AutoModel, config, 2**22)


def test_learned_positions_are_weights() -> None:
    check_built_size(AutoModel, DistilBertConfig(**SMALL, max_position_embeddings=2**20), MANY)
