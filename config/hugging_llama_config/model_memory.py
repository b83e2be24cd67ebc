"""What a model takes in memory, by arithmetic alone: no weight is read and no library asked.

One function for all who ask: the engine before a load, `/api/show`, and the catalog of the command line.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

DTYPE_BYTES: Mapping[str, int] = {"bfloat16": 2, "float16": 2, "float32": 4}
QUANTIZED_BYTES: Mapping[str, float] = {"int8": 1.0, "int4": 1.0 + 0.5 + 4 / 32}
"""Bytes an element of a quantised linear layer by torch's kernels; int4 has a scale and a zero point for every 32
elements, and a copy in int8 for large batches."""

NATIVE_QUANTIZED_BYTES: Mapping[str, float] = {"int8": 1.0, "int4": 0.5 + 2 / 32}
"""The same by the native kernels, whose int4 needs no copy."""

# the engine's KV cache allocates by these; a test compares
_MIN_SLOT_TOKENS = 256
_SLAB_TOKENS = 8192
_MAX_SLAB_SLOTS = 16
_TOKENIZER_ENTRY_BYTES = 600
_LOGIT_BYTES = 16
"""A logit in the model's dtype, in float32, and what sampling makes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """What decides a model's memory. Everything but `fixed_bytes` is a number of elements, 0 where there is none.

    `linear` are the matrices of linear layers, `head` the output head, tied or not, `other` what else is loaded in
    the model's dtype, embeddings above all; `fixed_bytes` keep the type in which they are stored. `state` is what a
    sequence keeps however long it is. `context_length` is what the model was made for, in tokens. `is_embedding`: it
    embeds or classifies whole texts, in float32.
    """

    linear: int
    head: int
    other: int
    fixed_bytes: int = 0
    is_head_tied: bool = False
    is_embedding: bool = False
    kv_per_token: int = 0
    state: int = 0
    hidden: int = 0
    intermediate: int = 0
    vocab: int = 0
    context_length: int = 0

    def usual_context(self, server_default: int) -> int:
        """Tokens of context where a request names none: one that embeds or classifies always has all of its own."""
        return self.context_length if self.is_embedding else server_default


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How an engine runs a model. `quantization` is none, int8 or int4.

    `packs_linears`: linear layers lie in memory in the order of the CPU's kernels, so a tied head is a copy of its own.
    `has_native_linears`: those kernels are our own. `batched_tokens` are those of one step at most, 0 for the device's
    default; `kv_cache_bytes` limits a model's cache, 0 if nothing but memory does.
    """

    device: str = "cpu"
    dtype: str = "bfloat16"
    quantization: str = "none"
    packs_linears: bool = False
    has_native_linears: bool = False
    batched_tokens: int = 0
    kv_cache_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes by what takes them, for sequences of `num_ctx` tokens.

    `runtime_bytes` are the engine's own and there before the first model: the libraries, the device's context.
    """

    weights_bytes: int
    kv_cache_bytes: int
    step_bytes: int
    runtime_bytes: int
    num_ctx: int

    @property
    def overhead_bytes(self) -> int:
        """What is neither weights nor KV cache."""
        return self.step_bytes + self.runtime_bytes

    @property
    def load_bytes(self) -> int:
        """What a running engine needs on top of what it has."""
        return self.weights_bytes + self.kv_cache_bytes + self.step_bytes

    @property
    def total_bytes(self) -> int:
        """All of an engine that holds this model alone."""
        return self.load_bytes + self.runtime_bytes

    def to_json(self) -> dict[str, int]:
        """The parts as all of our JSON has them, in bytes."""
        return {
            "weights": self.weights_bytes,
            "kv_cache": self.kv_cache_bytes,
            "overhead": self.overhead_bytes,
            "total": self.total_bytes,
            "num_ctx": self.num_ctx,
        }


@dataclass(frozen=True, slots=True)
class _Device:
    """`runtime_bytes` of the CPU were measured, as what an engine takes that has answered with a tiny model.

    Those of CUDA are what its context usually takes on the device, and were not measured.
    """

    runtime_bytes: int
    batched_tokens: int


_CPU = _Device(runtime_bytes=412_000_000, batched_tokens=512)
_CUDA = _Device(runtime_bytes=550_000_000, batched_tokens=8192)
_ELSEWHERE = _Device(runtime_bytes=412_000_000, batched_tokens=2048)


def estimate(size: ModelSize, runtime: Runtime, num_ctx: int, *, num_sequences: int = 1) -> MemoryEstimate:
    """The memory of a model with `num_sequences` sequences of `num_ctx` tokens, or of the model's own limit."""
    device = {"cpu": _CPU, "cuda": _CUDA}.get(runtime.device.partition(":")[0], _ELSEWHERE)
    item_bytes = DTYPE_BYTES["float32" if size.is_embedding else runtime.dtype]
    num_ctx = min(num_ctx, size.context_length or num_ctx)
    cache_elements = size.kv_per_token * cache_tokens(num_ctx, num_sequences) + size.state * num_sequences
    rows = runtime.batched_tokens or device.batched_tokens
    if size.is_embedding:
        rows = max(rows, num_ctx)
    return MemoryEstimate(
        weights_bytes=_weights_bytes(size, runtime, item_bytes),
        kv_cache_bytes=min(cache_elements * item_bytes, runtime.kv_cache_bytes or sys.maxsize),
        step_bytes=_step_bytes(size, rows, item_bytes, num_sequences),
        runtime_bytes=device.runtime_bytes,
        num_ctx=num_ctx,
    )


def least_load_bytes(size: ModelSize, runtime: Runtime) -> int:
    """What a running engine needs on top of what it has to load the model at all, with the smallest KV cache."""
    found = estimate(size, runtime, _MIN_SLOT_TOKENS)
    # the cache gets half of what is free after a load
    cache_bytes = 2 * _MIN_SLOT_TOKENS * size.kv_per_token * DTYPE_BYTES[runtime.dtype]
    return found.weights_bytes + found.step_bytes + min(cache_bytes, found.kv_cache_bytes)


def cache_tokens(num_tokens: int, num_sequences: int = 1) -> int:
    """Tokens of cache that so many sequences of `num_tokens` take: slots are powers of two, and come by the slab."""
    capacity = max(_MIN_SLOT_TOKENS, 1 << max(num_tokens - 1, 0).bit_length())
    slots = max(min(_SLAB_TOKENS // capacity, _MAX_SLAB_SLOTS), 1)
    return -(-num_sequences // slots) * slots * capacity


def _weights_bytes(size: ModelSize, runtime: Runtime, item_bytes: int) -> int:
    quantized = NATIVE_QUANTIZED_BYTES if runtime.has_native_linears else QUANTIZED_BYTES
    linear_bytes = quantized.get(runtime.quantization, float(item_bytes))
    matrices = size.linear + (size.head if runtime.packs_linears or not size.is_head_tied else 0)
    return int(matrices * linear_bytes) + size.other * item_bytes + size.fixed_bytes


def _step_bytes(size: ModelSize, rows: int, item_bytes: int, num_sequences: int) -> int:
    """The tokenizer, and what is alive at once in a step: residuals, the widest layer, one row of logits a sequence."""
    activations = rows * (6 * size.hidden + 3 * size.intermediate) * item_bytes
    logits = 0 if size.is_embedding else num_sequences * size.vocab * _LOGIT_BYTES
    return activations + logits + size.vocab * _TOKENIZER_ENTRY_BYTES
