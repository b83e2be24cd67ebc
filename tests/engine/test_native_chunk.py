"""Chunk attention in C against float64 softmax, and against itself when a prompt is cut in other ways."""

import pytest
import torch
from torch import Tensor

from hugging_llama.engine.native.attention import DecodePlaces, LayerCache, chunk_attention, decode_attention
from tests.engine.native_marks import needs_kernels

pytestmark = needs_kernels

CAPACITY = 1024
DTYPES = [torch.bfloat16, torch.float32]


def make_slot(kv_heads: int, dim: int, value_dim: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What lies behind `stop` is NaN, so that reading it would show."""
    keys, values = torch.randn(kv_heads, CAPACITY, dim).to(dtype), torch.randn(kv_heads, CAPACITY, value_dim).to(dtype)
    keys[:, stop:] = torch.nan
    values[:, stop:] = torch.nan
    return keys, values


def reference(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    first: int,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    n, num_heads, _ = query.shape
    group, stop = num_heads // keys.shape[0], first + n
    keys, values = (x[:, :stop].double().repeat_interleave(group, 0) for x in (keys, values))
    scores = query.double().transpose(0, 1) @ keys.transpose(1, 2) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    columns, positions = torch.arange(stop), torch.arange(first, stop)[:, None]
    hidden = columns > positions
    if window is not None:
        hidden |= columns <= positions - window
    scores = scores.masked_fill(hidden, -torch.inf)
    if sinks is not None:
        scores = torch.cat((scores, sinks.double()[:, None, None].expand(-1, n, 1)), dim=2)
    return (torch.softmax(scores, dim=2)[:, :, :stop] @ values).transpose(0, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kv_heads", "group", "dim", "value_dim"),
    [(2, 7, 64, 64), (1, 64, 8, 8), (3, 1, 80, 80), (2, 2, 128, 96), (1, 4, 256, 256), (2, 1, 7, 5), (1, 71, 16, 24)],
)
@pytest.mark.parametrize(("n", "first"), [(2, 0), (3, 254), (37, 5), (150, 420)])
def test_it_is_causal_softmax_attention(
    kv_heads: int, group: int, dim: int, value_dim: int, n: int, first: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(dim)
    keys, values = make_slot(kv_heads, dim, value_dim, first + n, dtype)
    query = torch.randn(n, kv_heads * group, dim).to(dtype)
    got = chunk_attention(query, keys, values, first, scaling=dim**-0.5).double()
    tolerance = 2**-7 if dtype == torch.bfloat16 else 2e-6
    torch.testing.assert_close(got, reference(query, keys, values, first, dim**-0.5), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("window", [None, 1, 17, 64, 300, 513])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("has_sinks", [False, True])
def test_windows_caps_and_sinks(window: int | None, softcap: float | None, has_sinks: bool) -> None:
    torch.manual_seed(7)
    n, first = 90, 480
    keys, values = make_slot(2, 32, 32, first + n, torch.float32)
    query = torch.randn(n, 6, 32) * 4
    sinks = torch.randn(6) * 3 if has_sinks else None
    got = chunk_attention(query, keys, values, first, scaling=0.3, window=window, softcap=softcap, sinks=sinks)
    want = reference(query, keys, values, first, 0.3, window, softcap, sinks)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


def test_scores_of_any_size() -> None:
    """Rows whose maximum rises in every block, and rows whose scores are far apart."""
    torch.manual_seed(6)
    keys, values = make_slot(1, 16, 16, 700, torch.float32)
    keys *= torch.linspace(1, 300, CAPACITY)[None, :, None]
    query = torch.randn(100, 2, 16)
    got = chunk_attention(query, keys, values, 600, scaling=1.0).double()
    torch.testing.assert_close(got, reference(query, keys, values, 600, 1.0), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kv_heads", "group", "dim"), [(2, 7, 64), (3, 1, 80), (1, 3, 7), (1, 12, 32)])
@pytest.mark.parametrize("window", [None, 100])
def test_a_query_has_the_same_bits_however_its_prompt_is_cut(
    kv_heads: int, group: int, dim: int, window: int | None, dtype: torch.dtype
) -> None:
    torch.manual_seed(5)
    n = 640
    keys, values = make_slot(kv_heads, dim, dim, n, dtype)
    query, sinks = torch.randn(n, kv_heads * group, dim).to(dtype), torch.randn(kv_heads * group)
    options = {"scaling": dim**-0.5, "window": window, "sinks": sinks}
    whole = chunk_attention(query, keys, values, 0, **options)
    for size in (2, 37, 512):
        for first in (0, 3, 250, 601):
            part = query[first : first + size]
            assert torch.equal(chunk_attention(part, keys, values, first, **options), whole[first : first + size])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kv_heads", "group", "dim"), [(2, 7, 64), (3, 1, 80), (1, 3, 7), (1, 12, 32), (2, 4, 16)])
@pytest.mark.parametrize("window", [None, 100])
def test_decoding_gives_the_bits_of_the_chunk(
    kv_heads: int, group: int, dim: int, window: int | None, dtype: torch.dtype
) -> None:
    torch.manual_seed(4)
    n = 600
    keys, values = make_slot(kv_heads, dim, dim, n, dtype)
    query, sinks = torch.randn(n, kv_heads * group, dim).to(dtype), torch.randn(kv_heads * group)
    options = {"scaling": dim**-0.5, "window": window, "softcap": 9.0, "sinks": sinks}
    whole = chunk_attention(query, keys, values, 0, **options)
    cache = LayerCache.of([keys[None]], [values[None]])
    positions = [0, 1, 15, 16, 254, 255, 256, 257, 511, 512, 599]
    places = DecodePlaces.of([0] * len(positions), [0] * len(positions), [at + 1 for at in positions])
    assert torch.equal(decode_attention(query[positions], cache, places, **options), whole[positions])
    for at in positions:
        alone = DecodePlaces.of([0], [0], [at + 1])
        assert torch.equal(decode_attention(query[at : at + 1], cache, alone, **options)[0], whole[at])


def test_a_result_has_the_same_bits_on_any_number_of_threads() -> None:
    torch.manual_seed(8)
    keys, values = make_slot(1, 64, 64, 1000, torch.bfloat16)
    threads = torch.get_num_threads()
    for n in (2, 9, 400):
        query = torch.randn(n, 4, 64).bfloat16()
        results = []
        try:
            for count in (1, 2, 5):
                torch.set_num_threads(count)
                results.append(chunk_attention(query, keys, values, 1000 - n, scaling=0.125))
        finally:
            torch.set_num_threads(threads)
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [5, 70])
def test_a_chunk_is_written_to_its_slot_first(n: int, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    first, num_heads, kv_heads, dim, value_dim = 300, 6, 2, 24, 16
    keys, values = make_slot(kv_heads, dim, value_dim, first, dtype)
    joint = torch.randn(n, num_heads * dim + kv_heads * (dim + value_dim)).to(dtype)
    query, new_keys, new_values = torch.split(joint, [num_heads * dim, kv_heads * dim, kv_heads * value_dim], dim=1)
    query, new_keys, new_values = query.view(n, -1, dim), new_keys.view(n, -1, dim), new_values.view(n, -1, value_dim)
    want_keys, want_values = keys.clone(), values.clone()
    want_keys[:, first : first + n] = new_keys.transpose(0, 1)
    want_values[:, first : first + n] = new_values.transpose(0, 1)
    want = chunk_attention(query.contiguous(), want_keys, want_values, first, scaling=0.2)
    got = chunk_attention(query, keys, values, first, scaling=0.2, new_keys=new_keys, new_values=new_values)
    assert torch.equal(got, want)
    assert torch.isfinite(got).all()
    torch.testing.assert_close(keys, want_keys, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(values, want_values, rtol=0, atol=0, equal_nan=True)


def test_decode_tokens_are_written_to_their_slots_first() -> None:
    torch.manual_seed(2)
    n, num_heads, kv_heads, dim = 3, 4, 2, 16
    slabs = [[torch.randn(4, kv_heads, capacity, dim).bfloat16() for capacity in (32, 300)] for _ in range(2)]
    cache = LayerCache.of(*slabs)
    want = LayerCache.of(*([slab.clone() for slab in kind] for kind in slabs))
    where = [(0, 2, 1), (1, 0, 300), (1, 3, 7)]
    places = DecodePlaces.of(*(list(column) for column in zip(*where, strict=True)))
    joint = torch.randn(n, num_heads + 2 * kv_heads, dim).bfloat16()
    query, new_keys, new_values = torch.split(joint, [num_heads, kv_heads, kv_heads], dim=1)
    for i, (slab, slot, length) in enumerate(where):
        want.keys[slab][slot, :, length - 1] = new_keys[i]
        want.values[slab][slot, :, length - 1] = new_values[i]
    expected = decode_attention(query.contiguous(), want, places, scaling=0.25)
    got = decode_attention(query, cache, places, scaling=0.25, new_keys=new_keys, new_values=new_values)
    assert torch.equal(got, expected)
    for ours, theirs in zip((*cache.keys, *cache.values), (*want.keys, *want.values), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["query", "keys", "values"])
def test_a_bad_number_shows_in_the_queries_that_see_it(bad: float, where: str, dtype: torch.dtype) -> None:
    torch.manual_seed(9)
    n, first, window, at = 200, 300, 90, 60
    keys, values = make_slot(1, 32, 32, first + n, dtype)
    query = torch.randn(n, 1, 32).to(dtype)
    good = chunk_attention(query, keys, values, first, scaling=0.2, window=window)
    if where == "query":
        query[at, 0, 3] = bad
    else:
        {"keys": keys, "values": values}[where][0, first + at, 3] = bad
    out = chunk_attention(query, keys, values, first, scaling=0.2, window=window)
    stop = at + 1 if where == "query" else at + window
    is_bad = ~torch.isfinite(out).all(dim=2).flatten()
    # an infinite key that a query scores at -infinity is merely a key of no weight
    assert is_bad[at:stop].all() if bad is torch.nan or where != "keys" else is_bad[at:stop].any()
    beside = 6 if where == "values" else 0
    assert torch.equal(out[: at - beside], good[: at - beside])
    assert torch.equal(out[stop + beside :], good[stop + beside :])


def test_no_queries_give_no_rows() -> None:
    keys, values = make_slot(1, 8, 8, 4, torch.float32)
    assert chunk_attention(torch.empty(0, 2, 8), keys, values, 4, scaling=1.0).shape == (0, 2, 8)


def test_what_does_not_fit_is_refused() -> None:
    keys, values = make_slot(2, 8, 8, 4, torch.float32)
    for query in (torch.ones(1, 3, 8), torch.ones(1, 2, 9), torch.ones(2, 2, 8).bfloat16()):
        with pytest.raises(ValueError, match="queries"):
            chunk_attention(query, keys, values, 0, scaling=1.0)
    query = torch.ones(2, 2, 8)
    for first in (-1, CAPACITY - 1):
        with pytest.raises(ValueError, match="outside"):
            chunk_attention(query, keys, values, first, scaling=1.0)
    with pytest.raises(ValueError, match="one slot"):
        chunk_attention(query, keys[:, ::2], values[:, ::2], 0, scaling=1.0)
    with pytest.raises(ValueError, match="sink"):
        chunk_attention(query, keys, values, 0, scaling=1.0, sinks=torch.ones(3))
    with pytest.raises(ValueError, match="come with"):
        chunk_attention(query, keys, values, 0, scaling=1.0, new_keys=torch.ones(2, 2, 8))
    with pytest.raises(ValueError, match="don't fit"):
        chunk_attention(
            query, keys, values, 0, scaling=1.0, new_keys=torch.ones(2, 2, 8), new_values=torch.ones(2, 1, 8)
        )
    new = torch.ones(2, 2, 8).bfloat16()
    with pytest.raises(ValueError, match="dtype"):
        chunk_attention(query, keys, values, 0, scaling=1.0, new_keys=new, new_values=new)
