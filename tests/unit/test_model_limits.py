"""What a configuration may claim: the sizes of real models, and no more parts than can be built in a while."""

import json
from typing import Any

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hugging_llama_config.model_limits import config_problem

MANY = 2**40


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_layers", 513), ("encoder_layers", 513), ("depth", 513), ("depths", [2, 513]), ("depths", [1] * 513),
        ("num_block_repeats", [[1, 513]]), ("num_blocks", 600.0), ("layer_types", ["full_attention"] * 513),
        ("num_stages", 513), ("num_codebooks", 513), ("num_nextn_predict_layers", 513), ("num_hidden_groups", 513),
        ("num_hash_functions", 513),
        ("n_positions", 1 << 23), ("max_seq_len", 1 << 23), ("attention_window", 5_000),
        ("attention_window", [8, 5_000]), ("chunk_size", 5_000), ("mamba_chunk_size", 5_000),
        ("num_experts", 16_385), ("moe_num_experts", 16_385), ("num_labels", 65_537), ("H_cycles", 513),
    ],
)  # fmt: skip
def test_numbers_of_parts(key: str, value: Any) -> None:
    assert config_problem({"text_config": {key: value}}, MANY) == f"has an impossible {key}"


@pytest.mark.parametrize("config", [{"H_cycles": 100, "L_cycles": 100}, {"n_heads": 128, "max_seq_len": 1 << 21}])
def test_possible_numbers_that_are_multiplied(config: dict[str, Any]) -> None:
    assert config_problem(config, MANY) == "asks for more than a forward can do"


@pytest.mark.parametrize(
    "config",
    [
        {"H_cycles": 2, "L_cycles": 3}, {"n_heads": 32, "max_seq_len": 65_536}, {"attention_chunk_size": 8192},
        {"n_layers": 512}, {"depths": [3, 3, 27, 3]}, {"vision_feature_layer": -2}, {"embed_dim_per_stage": [768]},
        {"hidden_size_per_layer": 4096}, {"num_labels": 50_000}, {"layer_types": ["full_attention"] * 512},
        {"num_experts_per_tok": 8, "num_experts": 2_048}, {"vocab_size_per_layer_input": 262_144},
    ],
)  # fmt: skip
def test_real_ones_pass(config: dict[str, Any]) -> None:
    assert config_problem(config, MANY) == ""


def test_defaults_of_all_families_pass() -> None:
    seen = 0
    for name, made in CONFIG_MAPPING.items():
        try:
            config = json.loads(json.dumps(made().to_dict(), default=str))
        except Exception:  # some have none
            continue
        seen += 1
        assert config_problem(config, MANY) == "", name
    assert seen > 100
