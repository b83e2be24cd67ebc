"""How fast linear layers are here: measured, since a processor's name or flags do not tell."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hugging_llama.engine.linear.packed import ExactLinear, Pack
from hugging_llama.engine.memory import raise_if_out_of_memory

_ROWS = (1, 16)
# a few matrices in turn, together too large for the caches next to the cores
_SHAPE = (1024, 2048)
_NUM_LAYERS = 4
_TRIAL_S = 0.01
_LEAST_PASSES = 3
_CLEARLY = 1.25
_NUM_TRIALS = 3


def is_clearly_slower(pack: Pack, dtype: torch.dtype) -> bool:
    """Whether packed layers take a quarter more time than plain ones, over one row and several.

    Tried out for about 50 ms, and again before it says yes: a busy neighbour must not decide it. Smaller differences
    are noise, and matrices that lie in no cache gain more.
    """
    return all(_trial_s(pack, dtype) > _CLEARLY * _trial_s(_plain, dtype) for _ in range(_NUM_TRIALS))


def bf16_is_fast() -> bool:
    """Whether packed bfloat16 layers are not slower than packed float32 ones; tried out for about 50 ms."""
    return _trial_s(_packed_if_possible, torch.bfloat16) <= _trial_s(_packed_if_possible, torch.float32)


def _trial_s(pack: Callable[[Tensor, None], nn.Module], dtype: torch.dtype) -> float:
    """Seconds for one pass with each number of rows, the best of several."""
    with torch.inference_mode():
        layers = [pack(torch.ones(_SHAPE, dtype=dtype), None) for _ in range(_NUM_LAYERS)]
        return sum(_pass_s(layers, torch.ones(rows, _SHAPE[1], dtype=dtype)) for rows in _ROWS)


def _pass_s(layers: list[nn.Module], x: Tensor) -> float:
    times: list[float] = []
    while sum(times) < _TRIAL_S or len(times) < _LEAST_PASSES:  # the first pass also builds kernels
        start = time.perf_counter()
        for layer in layers:
            layer(x)
        times.append(time.perf_counter() - start)
    return min(times)


def _plain(weight: Tensor, bias: None) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def _packed_if_possible(weight: Tensor, bias: None) -> nn.Module:
    try:
        return ExactLinear(weight, bias)
    except (RuntimeError, AttributeError) as error:
        raise_if_out_of_memory(error)
        return _plain(weight, bias)
