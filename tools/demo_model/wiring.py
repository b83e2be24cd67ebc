"""Start with working induction heads, which tiny budgets never find by themselves.

Layer 0 attends to the previous token (through a component that all embeddings share) and writes that token's
projection into a free subspace; layer 1 looks where that subspace equals its own token's projection and copies
what stands there. All other residual outputs start at zero. Training is free to change everything.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention

HEADS = 3
SHARED = 0.3  # the component on dimension 0 that all embeddings get
NEAR = 5.0  # how sharply layer 0 looks at the previous token
WRITE = 0.2  # how strongly layer 0 writes that token's projection
MATCH = 1.7  # how sharply layer 1 compares
COPY = 0.3  # how strongly layer 1 writes what it found


@dataclass(frozen=True)
class Head:
    """One wired head: the rows of its key/value and its query, and its three subspaces."""

    key: slice
    query: slice
    previous: Tensor
    written: Tensor
    copied: Tensor


def orthonormal_rows(size: int, generator: torch.Generator) -> Tensor:
    """A random orthonormal basis with nothing on dimension 0."""
    rows = torch.linalg.qr(torch.randn(size - 1, size - 1, generator=generator))[0]
    return nnf.pad(rows, (1, 0))


def heads(config: LlamaConfig, seed: int) -> list[Head]:
    size = config.head_dim
    group = config.num_attention_heads // config.num_key_value_heads
    generator = torch.Generator().manual_seed(seed)
    subspaces = orthonormal_rows(config.hidden_size, generator).split(size)
    copies = orthonormal_rows(config.hidden_size, generator).split(size)
    return [
        Head(
            slice(j * size, (j + 1) * size),
            slice(j * group * size, (j * group + 1) * size),
            subspaces[2 * j],
            subspaces[2 * j + 1],
            copies[j],
        )
        for j in range(HEADS)
    ]


def wire_previous_token(attention: LlamaAttention, head: Head, pull: Tensor, frequencies: Tensor) -> None:
    half = len(frequencies)
    key, query = attention.k_proj.weight[head.key], attention.q_proj.weight[head.query]
    key[:half, 0] = pull
    query[:half, 0], query[half:, 0] = pull * frequencies.cos(), -pull * frequencies.sin()
    attention.v_proj.weight[head.key] = head.previous
    attention.o_proj.weight[:, head.query] = WRITE * head.written.T


def wire_matching(attention: LlamaAttention, head: Head, far: Tensor) -> None:
    attention.k_proj.weight[head.key][far] = MATCH * head.written[far]
    attention.q_proj.weight[head.query][far] = MATCH * head.previous[far]
    attention.v_proj.weight[head.key] = head.copied
    attention.o_proj.weight[:, head.query] = COPY * head.copied.T


@torch.no_grad()
def wire_copying(model: LlamaForCausalLM, seed: int) -> None:
    config = model.config
    half = config.head_dim // 2
    frequencies = config.rope_parameters["rope_theta"] ** (-torch.arange(half) / half)
    far = (frequencies < 0.004).repeat(2).nonzero()[:, 0]  # rotary dimensions that hardly turn within a prompt
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    embeddings = model.model.embed_tokens.weight
    norm = (embeddings.std() ** 2 + SHARED**2 / config.hidden_size).sqrt()
    pull = (frequencies > 0.05) * NEAR / (SHARED / norm)
    embeddings[:, 0] = SHARED
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    for head in heads(config, seed):
        for attention in (first, second):
            attention.k_proj.weight[head.key] *= 0.1
            attention.q_proj.weight[head.query] *= 0.1
        wire_previous_token(first, head, pull, frequencies)
        wire_matching(second, head, far)
