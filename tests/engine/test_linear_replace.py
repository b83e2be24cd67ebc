"""Whole models with packed linear layers: they compute the same, and the plain weights are gone."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hugging_llama.engine.linear.int8 import Int8Linear
from hugging_llama.engine.linear.joint import JointLinear, JointPart
from hugging_llama.engine.linear.packed import ExactLinear, Kernel, Pack, PackedLinear
from hugging_llama.engine.linear.replace import pack_linears, packed_bytes
from hugging_llama.engine.linear.trace import trace_linears
from tests.engine.tiny_models import CONFIGS, generate_greedy, make_mamba, make_model

PROMPT = [5, 77, 300, 12, 9, 41]


def pack(model: nn.Module, run: Callable[[], object], how: Pack = ExactLinear) -> None:
    with torch.inference_mode():
        trace = trace_linears(model, run)
    pack_linears(model, trace, Kernel("test", how))


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(input_ids=torch.tensor([PROMPT])).logits[0]
    return found


def kinds(model: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in model.modules()]


@pytest.mark.parametrize("family", [*CONFIGS, "mamba"])
def test_every_family_computes_the_same(family: str) -> None:
    model: Any = make_mamba() if family == "mamba" else make_model(family)
    expected, text = logits(model), generate_greedy(model, PROMPT, 5)
    pack(model, lambda: generate_greedy(model, PROMPT, 2))
    assert PackedLinear in [kind.__base__ for kind in kinds(model)]
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
    assert generate_greedy(model, PROMPT, 5) == text


def test_what_shares_an_input_is_one_product() -> None:
    model = make_model("llama")
    pack(model, lambda: logits(model))
    layer: Any = model.get_submodule("model.layers.0")
    attention, mlp = layer.self_attn, layer.mlp
    assert [type(p) for p in (attention.q_proj, attention.k_proj, attention.v_proj)] == [JointLinear, *[JointPart] * 2]
    assert (attention.q_proj.out_features, attention.k_proj.out_features) == (64, 32)
    assert [type(p) for p in (mlp.gate_proj, mlp.up_proj)] == [JointLinear, JointPart]
    assert type(attention.o_proj) is type(mlp.down_proj) is type(model.get_submodule("lm_head")) is ExactLinear
    assert nn.Linear not in kinds(model)


@pytest.mark.parametrize("how", [ExactLinear, Int8Linear])
def test_joined_or_alone_the_bits_are_the_same(how: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    joined, alone = (make_model("qwen2", dtype=torch.bfloat16) for _ in range(2))
    pack(joined, lambda: logits(joined), how)
    monkeypatch.setattr("hugging_llama.engine.linear.replace._are_siblings", lambda *_: False)
    pack(alone, lambda: logits(alone), how)
    assert JointLinear in kinds(joined)
    assert JointLinear not in kinds(alone)
    assert torch.equal(logits(joined), logits(alone))
    assert packed_bytes(joined) == packed_bytes(alone)


def test_a_part_asked_for_another_input() -> None:
    product = ExactLinear(torch.randn(12, 8), None)
    joint = JointLinear(product, [4, 4, 4])
    second, third = JointPart(joint, 1, 4), JointPart(joint, 2, 4)
    x, other = torch.randn(3, 8), torch.randn(3, 8)
    for _ in range(2):
        joint(x)
        assert torch.equal(third(other), product(other)[:, 8:])
        assert torch.equal(second(x), product(x)[:, 4:8])
        assert torch.equal(second(other), product(other)[:, 4:8])


def test_opened_weights_and_uncalled_layers_stay() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.called, self.opened, self.idle = (nn.Linear(8, 8) for _ in range(3))
            self.again = self.called

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.again(self.called(x)) @ self.opened.weight + self.opened(x)
            return y

    model = Model().requires_grad_(False)
    x = torch.randn(2, 8)
    expected = model(x)
    pack(model, lambda: model(x))
    found = [type(module) for module in (model.called, model.again, model.opened, model.idle)]
    assert found == [ExactLinear, ExactLinear, nn.Linear, nn.Linear]
    assert model.called is model.again
    torch.testing.assert_close(model(x), expected)


def test_a_trace_leaves_no_trace() -> None:
    model = make_model("gpt2")
    before, state = kinds(model), [set(module.__dict__) for module in model.modules()]

    def fails() -> None:
        logits(model)
        raise RuntimeError("the trial fails")

    with pytest.raises(RuntimeError, match="trial"):
        trace_linears(model, fails)
    assert kinds(model) == before
    assert [set(module.__dict__) for module in model.modules()] == state


def test_plain_weights_are_dropped_and_tied_embeddings_kept() -> None:
    model: Any = make_model("llama")
    model.lm_head.weight = model.model.embed_tokens.weight
    embedding = model.model.embed_tokens.weight.clone()
    plain = [weakref.ref(module.weight) for module in model.model.modules() if type(module) is nn.Linear]
    expected = logits(model)
    pack(model, lambda: logits(model), Int8Linear)
    gc.collect()
    assert [weight() for weight in plain] == [None] * len(plain)
    assert torch.equal(model.model.embed_tokens.weight, embedding)
    found = logits(model)
    assert (found - expected).norm() / expected.norm() < 0.1
