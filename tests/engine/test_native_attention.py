"""Decode attention in C against float64 softmax over the same cache."""

import pytest
import torch
from torch import Tensor

from hugging_llama.engine.native.attention import DecodePlaces, LayerCache, decode_attention
from tests.engine.native_marks import needs_kernels

pytestmark = needs_kernels

LENGTHS = [1, 2, 15, 16, 17, 255, 256, 257, 700]
CAPACITIES = (256, 1024)


def make_cache(kv_heads: int, dim: int, value_dim: int, dtype: torch.dtype) -> LayerCache:
    """Two slabs; what lies behind a sequence's end is NaN, so that reading it would show."""
    keys = [torch.randn(8, kv_heads, capacity, dim).to(dtype) for capacity in CAPACITIES]
    values = [torch.randn(8, kv_heads, capacity, value_dim).to(dtype) for capacity in CAPACITIES]
    return LayerCache.of(keys, values)


def places_of(lengths: list[int], cache: LayerCache) -> DecodePlaces:
    """Each sequence in the smallest slab that holds it, slots from the top; the rest of its slot becomes NaN."""
    slabs = [0 if length <= CAPACITIES[0] else 1 for length in lengths]
    slots = [7 - slabs[:i].count(slab) for i, slab in enumerate(slabs)]
    for slab, slot, length in zip(slabs, slots, lengths, strict=True):
        cache.keys[slab][slot, :, length:] = torch.nan
        cache.values[slab][slot, :, length:] = torch.nan
    return DecodePlaces.of(slabs, slots, lengths)


def reference(
    query: Tensor,
    cache: LayerCache,
    places: DecodePlaces,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    rows = []
    for i, (slab, slot, length) in enumerate(places.table.tolist()):
        first = 0 if window is None else max(length - window, 0)
        group = query.shape[1] // cache.keys[slab].shape[1]
        keys = cache.keys[slab][slot, :, first:length].double().repeat_interleave(group, 0)
        values = cache.values[slab][slot, :, first:length].double().repeat_interleave(group, 0)
        scores = (keys @ query[i].double()[:, :, None])[:, :, 0] * scaling
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        if sinks is not None:
            scores = torch.cat((scores, sinks.double()[:, None]), dim=1)
        weights = torch.softmax(scores, dim=1)[:, : length - first]
        rows.append((weights[:, None] @ values)[:, 0])
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("kv_heads", "group", "dim", "value_dim"),
    [(2, 7, 64, 64), (1, 1, 16, 16), (3, 4, 80, 80), (2, 3, 128, 96), (1, 20, 256, 256), (2, 2, 7, 5)],
)
def test_it_is_softmax_attention(kv_heads: int, group: int, dim: int, value_dim: int, dtype: torch.dtype) -> None:
    torch.manual_seed(dim)
    cache = make_cache(kv_heads, dim, value_dim, dtype)
    lengths = LENGTHS[::2] if dim > 64 else LENGTHS
    places = places_of(lengths, cache)
    query = torch.randn(len(lengths), kv_heads * group, dim).to(dtype)
    got = decode_attention(query, cache, places, scaling=dim**-0.5).double()
    tolerance = 2**-8 if dtype == torch.bfloat16 else 2e-6
    torch.testing.assert_close(got, reference(query, cache, places, dim**-0.5), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("window", [None, 1, 17, 300])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("has_sinks", [False, True])
def test_windows_caps_and_sinks(window: int | None, softcap: float | None, has_sinks: bool) -> None:
    torch.manual_seed(7)
    cache = make_cache(2, 32, 32, torch.float32)
    places = places_of(LENGTHS[3:], cache)
    query = torch.randn(len(LENGTHS[3:]), 6, 32) * 4
    sinks = torch.randn(6) * 3 if has_sinks else None
    got = decode_attention(query, cache, places, scaling=0.3, window=window, softcap=softcap, sinks=sinks).double()
    want = reference(query, cache, places, 0.3, window, softcap, sinks)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_a_sequence_has_the_same_bits_in_any_batch_and_on_any_number_of_threads() -> None:
    torch.manual_seed(8)
    cache = make_cache(2, 64, 64, torch.bfloat16)
    places = places_of(LENGTHS, cache)
    query = torch.randn(len(LENGTHS), 14, 64).bfloat16()
    together = decode_attention(query, cache, places, scaling=0.125)
    for i in range(len(LENGTHS)):
        alone = DecodePlaces(places.table[i : i + 1].contiguous())
        assert torch.equal(decode_attention(query[i : i + 1], cache, alone, scaling=0.125)[0], together[i])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert torch.equal(decode_attention(query, cache, places, scaling=0.125), together)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["query", "keys", "values"])
def test_a_bad_number_shows_in_its_own_sequence(bad: float, where: str) -> None:
    torch.manual_seed(9)
    cache = make_cache(1, 32, 32, torch.bfloat16)
    places = places_of([20, 300, 40], cache)
    query = torch.randn(3, 4, 32).bfloat16()
    good = decode_attention(query, cache, places, scaling=0.2)
    slab, slot, _ = places.table[1].tolist()
    if where == "query":
        query[1, :, 3] = bad
    else:
        getattr(cache, where)[slab][slot, :, 299] = bad
    out = decode_attention(query, cache, places, scaling=0.2)
    assert not torch.isfinite(out[1]).all()
    assert torch.equal(out[[0, 2]], good[[0, 2]])


def test_no_sequences_give_no_rows() -> None:
    cache = make_cache(1, 8, 8, torch.float32)
    out = decode_attention(torch.empty(0, 2, 8), cache, DecodePlaces.of([], [], []), scaling=1.0)
    assert out.shape == (0, 2, 8)


def test_what_does_not_fit_is_refused() -> None:
    cache = make_cache(2, 8, 8, torch.float32)
    places = DecodePlaces.of([0], [0], [4])
    for query in (torch.ones(1, 3, 8), torch.ones(1, 2, 9), torch.ones(2, 2, 8), torch.ones(1, 2, 8).bfloat16()):
        with pytest.raises(ValueError, match="queries"):
            decode_attention(query, cache, places, scaling=1.0)
    with pytest.raises(ValueError, match="no keys"):
        DecodePlaces.of([0], [0], [0])
    with pytest.raises(ValueError, match="different slots"):
        LayerCache.of([torch.ones(1, 2, 4, 8)], [torch.ones(1, 2, 5, 8)])
    with pytest.raises(ValueError, match="not alike"):
        LayerCache.of([torch.ones(1, 2, 4, 8)[:, :, ::2]], [torch.ones(1, 2, 2, 8)])
