"""Attention with keys and values repeated for each head computes what torch's does, and is used where heads share."""

from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    GemmaConfig,
    GemmaModel,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForSequenceClassification,
    Qwen3Model,
)

from hugging_llama.engine.attention_memory import AttentionMemory
from hugging_llama.engine.wide_attention import WIDE_NAME, use_wide_attention

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip


def qwen3(**sizes: Any) -> Any:
    torch.manual_seed(0)
    model: Any = Qwen3Model(Qwen3Config(**SIZES | {"num_key_value_heads": 2, "head_dim": 8} | sizes))
    return model.eval()


def gemma() -> Any:
    torch.manual_seed(0)
    model: Any = GemmaModel(GemmaConfig(**SIZES, num_key_value_heads=1, head_dim=8))
    return model.eval()


@torch.inference_mode()
def states(model: Any, lengths: list[int]) -> Any:
    mask = torch.tensor([[0] * (max(lengths) - n) + [1] * n for n in lengths])
    ids = torch.arange(3, 3 + mask.numel()).remainder(60).view_as(mask)
    return model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[mask.bool()]


@pytest.mark.parametrize("lengths", [[1], [9], [9, 9], [9, 4]], ids=str)
@pytest.mark.parametrize("make", [qwen3, gemma, lambda: qwen3(use_sliding_window=True, sliding_window=4)])
def test_the_numbers_are_the_same(make: Any, lengths: list[int]) -> None:
    model = make()
    expected = states(model, lengths)
    use_wide_attention(model, CUDA)
    assert model.config._attn_implementation == WIDE_NAME
    torch.testing.assert_close(states(model, lengths), expected)


def test_only_shared_heads_on_cuda_need_it() -> None:
    shared, unshared = qwen3(), qwen3(num_key_value_heads=4)
    use_wide_attention(shared, CPU)
    assert shared.config._attn_implementation == "sdpa"
    use_wide_attention(unshared, CUDA)
    assert unshared.config._attn_implementation == "sdpa"
    bert = BertModel(BertConfig(**SIZES))
    use_wide_attention(bert, CUDA)
    assert bert.config._attn_implementation == "sdpa"


def test_the_parts_of_a_larger_module_have_it_and_its_memory_is_counted_the_same() -> None:
    config = Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8, use_sliding_window=True, sliding_window=4)
    classifier: Any = Qwen3ForSequenceClassification(config)  # type: ignore[no-untyped-call]
    module = torch.nn.Sequential(classifier)
    before = AttentionMemory(module).needed_bytes([1000, 999])
    use_wide_attention(module, CUDA)
    parts = [part for part in module.modules() if isinstance(part, PreTrainedModel)]
    assert len(parts) == 2
    assert {part.config._attn_implementation for part in parts} == {WIDE_NAME}
    assert AttentionMemory(module).needed_bytes([1000, 999]) == before > 0
