"""Which native kernels may be used here: each family is compared with torch once, before its first use."""

import functools
import logging
from collections.abc import Callable
from enum import Enum

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hugging_llama.engine.memory import raise_if_out_of_memory
from hugging_llama.engine.native.attention import DecodePlaces, LayerCache, chunk_attention, decode_attention
from hugging_llama.engine.native.elementwise import add_rms_norm, mask_rows, rotate, silu_mul
from hugging_llama.engine.native.library import library
from hugging_llama.engine.native.linear import BFloat16Linear, Int4Linear, Int8Linear
from hugging_llama.engine.native.lora import LowRankFactors, LowRankPart, RowGroups, add_lora

_log = logging.getLogger(__name__)

# the largest error relative to the norm of the right answer: the formats' own, with some slack
_INT8_ERROR, _INT4_ERROR, _BF16_ERROR = 0.03, 0.15, 0.01


class Family(Enum):
    """Kernels that are used together or not at all."""

    LINEAR_BF16 = "linear-bf16"
    LINEAR_INT8 = "linear-int8"
    LINEAR_INT4 = "linear-int4"
    ELEMENTWISE = "elementwise"
    ATTENTION = "attention"
    LORA = "lora"


@functools.cache
def native_families() -> frozenset[Family]:
    """The families that compute what torch does; none if there is no library. Takes some milliseconds, once."""
    if library() is None:
        return frozenset()
    good = frozenset(family for family, probe in _PROBES.items() if _passes(family, probe))
    _log.info("native kernels: %s", ", ".join(sorted(family.value for family in good)) or "none")
    return good


def _passes(family: Family, probe: Callable[[torch.Generator], bool]) -> bool:
    try:
        with torch.inference_mode():
            is_right = probe(torch.Generator().manual_seed(0))
    except (RuntimeError, ValueError, TypeError) as error:
        raise_if_out_of_memory(error)
        _log.warning("the native kernels of %s are not used: %s", family.value, error)
        return False
    if not is_right:
        _log.warning("the native kernels of %s are not used: they compute something else than torch", family.value)
    return is_right


def _linear(kind: type[BFloat16Linear | Int8Linear | Int4Linear], error: float, random: torch.Generator) -> bool:
    weight, bias = _normal(random, 72, 160), _normal(random, 72)
    layer = kind.pack(weight, bias)
    rows = [_normal(random, m, 160) for m in (1, 5, 19)]
    return all(_is_close(layer(x), functional.linear(x.float(), weight.float(), bias.float()), error) for x in rows)


def _elementwise(random: torch.Generator) -> bool:
    x, residual, weight = _normal(random, 5, 96), _normal(random, 5, 96), _normal(random, 96)
    total = x + residual
    wide = total.float()
    norm = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.float()
    gate, up = x.float().chunk(2, dim=-1)
    heads, cos, sin = _normal(random, 5, 3, 32), _normal(random, 5, 32), _normal(random, 5, 32)
    turned = torch.cat((-heads[..., 16:], heads[..., :16]), dim=-1)
    added, normed = add_rms_norm(x, residual, weight, 1e-6)
    bits = np.array([[-1, 5, 0]] * 5, dtype=np.int32)
    allowed = torch.tensor([True] * 32 + [True, False, True] + [False] * 61)
    return (
        torch.equal(added, total)
        and _is_close(normed, norm, _BF16_ERROR)
        and _is_close(silu_mul(x), functional.silu(gate) * up, _BF16_ERROR)
        and torch.equal(mask_rows(x, bits), x.float().masked_fill(~allowed, -torch.inf))
        and torch.equal(rotate(heads, cos, sin), heads * cos[:, None] + turned * sin[:, None])
    )


def _attention(random: torch.Generator) -> bool:
    keys, values, query = _normal(random, 2, 2, 300, 64), _normal(random, 2, 2, 300, 64), _normal(random, 9, 6, 64)
    cache, places = LayerCache.of([keys], [values]), DecodePlaces.of([0, 0], [1, 0], [300, 7])
    key, value = _normal(random, 2, 2, 64), _normal(random, 2, 2, 64)
    decoded = decode_attention(query[:2], cache, places, scaling=0.1, new_keys=key, new_values=value)
    if not (torch.equal(keys[1, :, 299], key[0]) and torch.equal(values[0, :, 6], value[1])):
        return False
    chunk = chunk_attention(query, keys[0], values[0], 260, scaling=0.1)
    want = [_attended(query[0], keys[1], values[1]), _attended(query[1], keys[0, :, :7], values[0, :, :7])]
    stops = range(261, 270)
    want += [_attended(query[i], keys[0, :, :stop], values[0, :, :stop]) for i, stop in enumerate(stops)]
    return _is_close(torch.cat((decoded, chunk)), torch.stack(want), _BF16_ERROR)


def _lora(random: torch.Generator) -> bool:
    x, y = _normal(random, 9, 70), _normal(random, 9, 100)
    want = y.float()
    groups, factors = [[1, 2, 4], [0, 3, 5, 6, 7, 8]], []
    for rows, r, n, column in ((groups[0], 5, 100, 0), (groups[1], 18, 70, 30)):
        down, up = _normal(random, r, 70), _normal(random, n, r)
        factors.append(LowRankFactors.pack([LowRankPart(down, up, column)], 100))
        inner = (x[rows].float() @ down.float().T).bfloat16().float()
        want[rows, column : column + n] += inner @ up.float().T
    add_lora(y, x, RowGroups.of(groups), factors)
    return _is_close(y, want, _BF16_ERROR)


def _attended(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One `query` `[6, 64]` over all of its keys `[2, ., 64]`."""
    return functional.scaled_dot_product_attention(
        query.float().view(2, 3, 64), keys.float(), values.float(), scale=0.1
    ).reshape(6, 64)


_PROBES: dict[Family, Callable[[torch.Generator], bool]] = {
    Family.LINEAR_BF16: functools.partial(_linear, BFloat16Linear, _BF16_ERROR),
    Family.LINEAR_INT8: functools.partial(_linear, Int8Linear, _INT8_ERROR),
    Family.LINEAR_INT4: functools.partial(_linear, Int4Linear, _INT4_ERROR),
    Family.ELEMENTWISE: _elementwise,
    Family.ATTENTION: _attention,
    Family.LORA: _lora,
}


def _normal(random: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=random).bfloat16()


def _is_close(got: Tensor, want: Tensor, error: float) -> bool:
    return bool((got.float() - want).norm() <= error * want.norm())
