"""From a model's config.json and the headers of its weight files to what decides its memory.

Both come from strangers: a value that is missing or makes no sense counts as absent, and nothing raises.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hugging_llama_config.model_memory import ModelSize

_LARGEST = 2**32
_EMBEDDING = re.compile(r"emb|wte\b|wpe\b|(^|\.)shared\.")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")
_EXPERT = re.compile(r"\.experts\.|_blocks$")
_FIXED_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8}
_ATTENTION = frozenset({"full_attention", "sliding_attention", "chunked_attention", "attention", "hybrid"})
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
_ENCODER_CONTEXT = 512
_DEFAULT_CONTEXT = 2048


class StoredTensor(NamedTuple):
    """A tensor of a weight file; `dtype` as safetensors spells it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


def model_size(
    config: Mapping[str, Any],
    tensors: Iterable[StoredTensor],
    *,
    is_embedding: bool,
    has_head: bool | None = None,
    context_length: int | None = None,
) -> ModelSize:
    """`is_embedding`: it embeds or classifies, and keeps nothing of what it has read. `has_head`: it computes logits of
    tokens, by default what does not embed; cross-encoders made of a language model do, too. `context_length` where
    something else than config.json limits it, as it does for sentence-transformers."""
    has_head = not is_embedding if has_head is None else has_head
    text = _text_part(config)
    weights = _sum_weights(tensors)
    hidden = _number(text, "hidden_size", "n_embd", "d_model", "dim")
    vocab = _number(text, "vocab_size")
    is_tied = has_head and (not weights.head or config.get("tie_word_embeddings") is True)
    limit = context_length or _number(text, *CONTEXT_KEYS)
    return ModelSize(
        linear=weights.linear,
        head=(vocab * hidden if is_tied else weights.head) if has_head else 0,
        other=weights.other + (0 if has_head else weights.head),
        fixed_bytes=weights.fixed_bytes,
        is_head_tied=is_tied,
        is_embedding=is_embedding,
        kv_per_token=0 if is_embedding else kv_per_token(text),
        state=0 if is_embedding else _state(text),
        hidden=hidden,
        intermediate=_number(text, "intermediate_size", "n_inner", "ffn_dim", "d_ff") or 4 * hidden,
        vocab=vocab,
        context_length=limit or (_ENCODER_CONTEXT if is_embedding else _DEFAULT_CONTEXT),
    )


def kv_per_token(text: Mapping[str, Any]) -> int:
    """Elements of keys and values a token, over all layers that attend, as attention receives them.

    Windows make no layer smaller, since the cache holds every layer whole; latent attention (DeepSeek-V2, arXiv
    2405.04434) is cached expanded.
    """
    heads = _number(text, "num_attention_heads", "n_head", "num_heads")
    if _number(text, "kv_lora_rank"):
        key_dim = _number(text, "qk_nope_head_dim") + _number(text, "qk_rope_head_dim")
        return _num_attention_layers(text) * heads * (key_dim + _number(text, "v_head_dim"))
    kv_heads = _number(text, "num_key_value_heads", "num_kv_heads") or (1 if text.get("multi_query") is True else heads)
    hidden = _number(text, "hidden_size", "n_embd", "d_model")
    head_dim = _number(text, "head_dim") or hidden // max(heads, 1)
    return _num_attention_layers(text) * 2 * kv_heads * head_dim


@dataclass(slots=True)
class _WeightSums:
    """Elements of all tensors of a model by what they are for, and the bytes of those that keep their numbers."""

    linear: int = 0
    head: int = 0
    other: int = 0
    fixed_bytes: int = 0


def _sum_weights(tensors: Iterable[StoredTensor]) -> _WeightSums:
    """What the names and shapes of the tensors say."""
    sums = _WeightSums()
    for tensor in tensors:
        if tensor.name.endswith("_blocks") and tensor.dtype == "U8":
            sums.other += 2 * tensor.num_elements  # MXFP4, two in a byte, is unpacked where no kernel reads it
        elif tensor.dtype in _FIXED_BYTES:
            sums.fixed_bytes += tensor.num_elements * _FIXED_BYTES[tensor.dtype]
        elif _HEAD.search(tensor.name):
            sums.head += tensor.num_elements
        elif _is_linear(tensor):
            sums.linear += tensor.num_elements
        else:
            sums.other += tensor.num_elements
    return sums


def _is_linear(tensor: StoredTensor) -> bool:
    """Experts are not linear layers in memory: transformers stacks them into one tensor."""
    is_matrix = len(tensor.shape) == 2 and tensor.name.endswith(".weight")
    return is_matrix and not _EMBEDDING.search(tensor.name) and not _EXPERT.search(tensor.name)


def _num_layers(text: Mapping[str, Any]) -> int:
    return _number(text, "num_hidden_layers", "n_layer", "num_layers", "n_layers")


def _num_attention_layers(text: Mapping[str, Any]) -> int:
    for key in ("layer_types", "layers_block_type"):
        kinds = text.get(key)
        if isinstance(kinds, list) and kinds:
            return sum(kind in _ATTENTION for kind in kinds if isinstance(kind, str))
    if period := _number(text, "attn_layer_period"):
        return len(range(_number(text, "attn_layer_offset"), _num_layers(text), period))
    return _num_layers(text)


def _state(text: Mapping[str, Any]) -> int:
    """Elements of the state of linear-attention and state-space layers; 0 for families that name theirs otherwise."""
    num_layers = _num_layers(text)
    if heads := _number(text, "linear_num_value_heads"):
        size = heads * _number(text, "linear_key_head_dim") * _number(text, "linear_value_head_dim")
        return (num_layers - _num_attention_layers(text)) * size
    if state_size := _number(text, "state_size", "ssm_state_size", "mamba_d_state"):
        width = _number(text, "intermediate_size") or 2 * _number(text, "hidden_size", "d_model")
        return num_layers * width * state_size
    return 0


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    part = config.get("text_config")
    return part if isinstance(part, dict) else config


def _number(values: Mapping[str, Any], *keys: str) -> int:
    found = (values.get(key) for key in keys)
    return next((value for value in found if type(value) is int and 0 < value < _LARGEST), 0)
