"""What the files of a model on disk say of it, at length."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any


class Pooling(StrEnum):
    """How an embedding model makes one vector of many."""

    MEAN = "mean"
    CLS = "cls"
    LAST = "last"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The shape of a model; None where its files don't say. Lengths in tokens and elements."""

    num_layers: int | None = None
    intermediate_size: int | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    norm_epsilon: float | None = None
    rope_theta: float | None = None
    rope_dim: int | None = None
    sliding_window: int | None = None
    num_experts: int | None = None
    num_experts_used: int | None = None
    vocab_size: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pooling: Pooling | None = None


class TokenType(IntEnum):
    """What a token is for, numbered as in GGUF files."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """`model` is its kind in llama.cpp's words. Tokens and types stand in the order of their ids; these lists are
    empty where nobody asked for them. None where the files don't say."""

    model: str
    tokens: tuple[str, ...] = ()
    token_types: tuple[TokenType, ...] = ()
    merges: tuple[str, ...] = ()
    adds_bos: bool | None = None
    adds_eos: bool | None = None


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A stored tensor; `dtype` as safetensors spells it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """`template` is Jinja, "" if there is none; `sampling` are the authors' defaults, SamplingParams fields by name;
    `license` the text of the licence, or its name where the text is not there, or "".

    `tensors` are empty where nobody asked for them. `tool_format` is the name of the way in which tool calls are read,
    "" for none; `thinking_tags` what stands before and behind reasoning.
    """

    architecture: Architecture
    template: str
    sampling: Mapping[str, Any]
    license: str
    tensors: tuple[TensorInfo, ...]
    tokenizer: Tokenizer | None
    tool_format: str = ""
    thinking_tags: tuple[str, str] | None = None
