"""Decoder layers in ten native calls instead of some sixty operators.

Most families have the same layer: norm, attention with rotary positions, norm, gated MLP, two residual sums (Llama,
arXiv:2302.13971). Where one token is computed at a time the operators between the matrix products take longer to
start than to run, so they are done by the native kernels in as few passes as there can be. A layer is recognised by
its parts; whether it does with them what it seems to do is proven by the self-test, which compares logits, and takes
the fused layers out again if they differ.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from hugging_llama.engine.attention import LayerProbe, attend
from hugging_llama.engine.kv_step import KVStep
from hugging_llama.engine.linear.joint import JointLinear, JointPart
from hugging_llama.engine.linear.packed import PackedLinear
from hugging_llama.engine.native.elementwise import add_rms_norm, rms_norm, rotate, silu_mul
from hugging_llama.engine.native.library import FORMATS
from hugging_llama.engine.native.probe import Family, native_families
from hugging_llama.engine.padded_attention import AttentionKind


@dataclass(frozen=True, slots=True)
class _Norm:
    """A root mean square norm. `weight` `[n]`."""

    weight: Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a layer is made of. `qkv` and `gate_up` are joint products, in this order."""

    index: int
    kind: AttentionKind
    head_dim: int
    num_heads: int
    num_kv_heads: int
    input_norm: _Norm
    qkv: PackedLinear
    query_norm: _Norm | None
    key_norm: _Norm | None
    output: nn.Module
    post_norm: _Norm
    gate_up: PackedLinear
    down: nn.Module


class FusedLayer(nn.Module):
    """Stands where a decoder layer stood, and computes the steps of the batch; any other call is the layer's own."""

    def __init__(self, original: nn.Module, parts: _Parts) -> None:
        super().__init__()
        self.original = original
        self._parts = parts

    def forward(self, hidden_states: Tensor, *args: Any, **options: Any) -> Any:
        """`hidden_states` `[1, T, hidden_size]`, returned in the same shape."""
        step = options.get("kv_step")
        if not isinstance(step, KVStep) or not step.is_native:
            return self.original(hidden_states, *args, **options)
        cos, sin = options["position_embeddings"]
        return self._compute(hidden_states[0], cos[0], sin[0], step)[None]

    def _compute(self, x: Tensor, cos: Tensor, sin: Tensor, step: KVStep) -> Tensor:
        parts = self._parts
        rows = parts.qkv(rms_norm(x, parts.input_norm.weight, parts.input_norm.eps))
        query, key, value = self._heads(rows, cos, sin)
        attended = attend(step, parts.index, query, key, value, parts.kind).flatten(1)
        x, normed = add_rms_norm(parts.output(attended), x, parts.post_norm.weight, parts.post_norm.eps)
        down: Tensor = parts.down(silu_mul(parts.gate_up(normed)))
        return x + down

    def _heads(self, rows: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (both rotated) and values `[T, heads, head_dim]` of joint `rows`."""
        parts = self._parts
        heads = rows.view(len(rows), -1, parts.head_dim)
        first_value = parts.num_heads + parts.num_kv_heads
        if parts.query_norm is None or parts.key_norm is None:
            turned = rotate(heads[:, :first_value], cos, sin)
            return turned[:, : parts.num_heads], turned[:, parts.num_heads :], heads[:, first_value:]
        query = rms_norm(heads[:, : parts.num_heads], parts.query_norm.weight, parts.query_norm.eps)
        key = rms_norm(heads[:, parts.num_heads : first_value], parts.key_norm.weight, parts.key_norm.eps)
        return rotate(query, cos, sin), rotate(key, cos, sin), heads[:, first_value:]


def fuse_layers(model: PreTrainedModel, probe: LayerProbe) -> bool:
    """Puts fused layers where the model's layers can be fused, all of them or none. True if it did."""
    if model.device.type != "cpu" or model.dtype not in FORMATS:
        return False
    if not {Family.ATTENTION, Family.ELEMENTWISE} <= native_families():
        return False
    layers: Any = getattr(model.get_decoder(), "layers", None)  # type: ignore[no-untyped-call]
    if not isinstance(layers, nn.ModuleList):
        return False
    found = [_parts(layer, index, probe) for index, layer in enumerate(layers)]
    if not found or any(parts is None for parts in found):
        return False
    for index, parts in enumerate(found):
        if parts is not None:
            layers[index] = FusedLayer(layers[index], parts)
    return True


def unfuse_layers(model: PreTrainedModel) -> None:
    """The layers as they were."""
    layers: Any = model.get_decoder().layers  # type: ignore[no-untyped-call]
    for index, layer in enumerate(layers):
        if isinstance(layer, FusedLayer):
            layers[index] = layer.original


def _parts(layer: Any, index: int, probe: LayerProbe) -> _Parts | None:
    """The parts of a layer, None if it has others."""
    attention, mlp = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    kind, shape = probe.kinds.get(index), probe.shapes.get(index)
    if attention is None or mlp is None or kind is None or shape is None or shape.key_head_dim != shape.value_head_dim:
        return None
    qkv = _joint(attention, "q_proj", "k_proj", "v_proj")
    gate_up = _joint(mlp, "gate_proj", "up_proj")
    norms = [_norm(layer, name) for name in ("input_layernorm", "post_attention_layernorm")]
    head_norms = [_norm(attention, name) for name in ("q_norm", "k_norm")]
    has_others = {name for name, _ in layer.named_children()} - {
        "self_attn",
        "mlp",
        "input_layernorm",
        "post_attention_layernorm",
    }
    if qkv is None or gate_up is None or norms[0] is None or norms[1] is None or has_others:
        return None
    if (head_norms[0] is None) != (head_norms[1] is None) or not _is_silu(getattr(mlp, "act_fn", None)):
        return None
    head_dim = shape.key_head_dim
    if any(norm is not None and norm.weight.shape != (head_dim,) for norm in head_norms):
        return None
    return _Parts(
        index=index,
        kind=kind,
        head_dim=head_dim,
        num_heads=qkv.out_features // head_dim - 2 * shape.num_kv_heads,
        num_kv_heads=shape.num_kv_heads,
        input_norm=norms[0],
        qkv=qkv,
        query_norm=head_norms[0],
        key_norm=head_norms[1],
        output=attention.o_proj,
        post_norm=norms[1],
        gate_up=gate_up,
        down=mlp.down_proj,
    )


def _joint(module: Any, *names: str) -> PackedLinear | None:
    """The joint product of layers of these names, None if they are not joined in this order."""
    first, *others = (getattr(module, name, None) for name in names)
    if not isinstance(first, JointLinear) or not all(isinstance(other, JointPart) for other in others):
        return None
    return first.product if first.num_parts == len(names) else None


def _norm(module: Any, name: str) -> _Norm | None:
    norm = getattr(module, name, None)
    eps, weight = getattr(norm, "variance_epsilon", None), getattr(norm, "weight", None)
    if not isinstance(eps, float) or not isinstance(weight, torch.Tensor):
        return None
    return _Norm(weight, eps)


def _is_silu(activation: Any) -> bool:
    x = torch.linspace(-8, 8, 33)
    return callable(activation) and torch.equal(activation(x), functional.silu(x))
