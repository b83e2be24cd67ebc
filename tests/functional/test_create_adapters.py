"""/api/create with adapters that can't work: told from their files, before anything is written down."""

import json

import pytest

from tests.functional.conftest import MakeClient
from tests.functional.test_create import DEMO, create, refused, upload
from tests.hub_cache import MINILM
from tests.store import models

Q = "model.layers.0.self_attn.q_proj"
K = "layers.0.self_attn.k_proj"
OTHER = {"adapter_model.safetensors": models.safetensors({"w": ("F32", (2,))})}


@pytest.mark.parametrize(
    ("adapter", "error"),
    [
        (models.low_rank(use_dora=True), "this adapter uses use_dora, which is not supported"),
        (models.low_rank(modules_to_save=["lm_head"]), "this adapter uses modules_to_save, which is not supported"),
        (models.low_rank(bias="all"), "this adapter trains the base model's biases (bias), which is not supported"),
        (models.low_rank(r=999), f"the adapter's rank for {Q} is 2, its adapter_config.json says 999"),
        (models.low_rank() | OTHER, "the adapter holds w, which is no LoRA weight of a linear layer"),
        (models.low_rank(features=(64, 64)), f"it takes {Q} to be 64 by 64, and here it is 256 by 256"),
        (models.low_rank("model.layers.99.mlp.up_proj"), "this one has no linear layer model.layers.99.mlp.up_proj"),
        (models.low_rank("transformer.h.0.attn.c_attn"), "this one has no linear layer transformer.h.0.attn.c_attn"),
    ],
)  # fmt: skip
def test_adapters_that_can_not_work(make_client: MakeClient, adapter: dict[str, bytes], error: str) -> None:
    client, _ = make_client()
    assert error in refused(client, adapters=upload(client, adapter), base=DEMO)


def test_adapters_are_for_models_that_write(make_client: MakeClient) -> None:
    client, _ = make_client()
    files = upload(client, models.low_rank("encoder.layer.0.attention.self.query", features=(384, 384)))
    assert f'"{MINILM}:latest" does not write' in refused(client, adapters=files, base=MINILM)


@pytest.mark.parametrize(
    ("tensors", "layer"),
    [
        ({"h.0.attn.c_attn.weight": ("F32", (8, 24))}, "transformer.h.0.attn.c_attn"),  # transposed, without its prefix
        ({f"model.{K}.weight": ("F32", (24, 8))}, f"model.language_model.{K}"),
        ({f"model.{K}.weight": ("F32", (24, 8)), f"vision.{K}.weight": ("F32", (6, 6))}, f"model.{K}"),
        ({f"model.{K}.weight": ("I8", (6, 8))}, f"model.{K}"),  # packed
        ({f"model.{K}.weight": ("F32", (24, 8))}, "lm_head"),  # tied to the embeddings
        ({"encoder.3.key.weight": ("F32", (6, 8))}, f"model.{K}"),  # names of the files' own
    ],
)
def test_files_may_call_layers_otherwise(
    make_client: MakeClient, tensors: dict[str, tuple[str, tuple[int, ...]]], layer: str
) -> None:
    client, _ = make_client()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    base = {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": models.TOKENIZER,
        "model.safetensors": models.safetensors(tensors),
    }
    adapter = upload(client, models.low_rank(layer, features=(24, 8)))
    create(client, files=upload(client, base), adapters=adapter)
