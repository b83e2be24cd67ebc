"""The fused element-wise steps against transformers' own modules, and against float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from hugging_llama.engine.native.elementwise import add_rms_norm, rms_norm, rotate, silu_mul
from tests.engine.native_marks import needs_kernels

pytestmark = needs_kernels

DTYPES = [torch.bfloat16, torch.float32]
SHAPES = [(1, 1), (3, 16), (5, 33), (70, 896)]


def one_rounding(dtype: torch.dtype) -> float:
    """The largest relative difference when one of two roundings falls the other way."""
    return 2**-7 if dtype == torch.bfloat16 else 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_the_norm_is_llamas_and_gemmas(m: int, n: int, dtype: torch.dtype) -> None:
    torch.manual_seed(m * n)
    x, residual = torch.randn(m, n).to(dtype) * 3, torch.randn(m, n).to(dtype)
    llama, gemma = LlamaRMSNorm(n, 1e-6).to(dtype), Gemma2RMSNorm(n, 1e-6).to(dtype)
    for module in (llama, gemma):
        module.weight.data = torch.randn(n).to(dtype)
    bound = one_rounding(dtype)
    torch.testing.assert_close(rms_norm(x, llama.weight, 1e-6), llama(x), rtol=bound, atol=1e-6)
    torch.testing.assert_close(rms_norm(x, gemma.weight, 1e-6, offset=1.0), gemma(x), rtol=bound, atol=1e-6)
    total, normed = add_rms_norm(x, residual, llama.weight, 1e-6)
    assert torch.equal(total, x + residual)
    torch.testing.assert_close(normed, llama(x + residual), rtol=bound, atol=1e-6)
    if dtype == torch.bfloat16:
        # only the order of the sum differs, so nearly all numbers are the same
        assert (normed != llama(x + residual)).float().mean() < 0.01


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_silu_times_up(m: int, n: int, dtype: torch.dtype) -> None:
    torch.manual_seed(n)
    x = torch.randn(m, 2 * n).to(dtype) * 8
    want = functional.silu(x[:, :n]) * x[:, n:]
    torch.testing.assert_close(silu_mul(x), want, rtol=one_rounding(dtype), atol=1e-6)
    assert (silu_mul(x) != want).float().mean() < (0.01 if dtype == torch.bfloat16 else 0.6)


def test_silu_at_the_ends() -> None:
    gate = torch.tensor([0.0, -0.0, 1e30, -1e30, -88.0, 88.0, -104.0, torch.inf, torch.nan])
    got = silu_mul(torch.cat((gate, torch.ones(9)))[None])[0]
    want = functional.silu(gate.double())
    assert torch.isnan(got[-1])
    torch.testing.assert_close(got[:-1].double(), want[:-1], rtol=1e-6, atol=1e-36)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "dim", "rotary"), [(14, 64, 64), (2, 80, 32), (1, 2, 2), (3, 128, 126)])
def test_rotation_has_the_bits_of_transformers(heads: int, dim: int, rotary: int, dtype: torch.dtype) -> None:
    torch.manual_seed(dim)
    tokens = 9
    joint = torch.randn(tokens, heads * dim + 40).to(dtype)
    x = joint[:, 24 : 24 + heads * dim].reshape(tokens, heads, dim)
    angles = torch.randn(tokens, rotary // 2) * 10
    cos, sin = (part.to(dtype) for part in (torch.cat((angles, angles), 1).cos(), torch.cat((angles, angles), 1).sin()))
    part = x[:, :, :rotary].transpose(0, 1)[None]
    want = apply_rotary_pos_emb(part, part, cos[None], sin[None])[0][0].transpose(0, 1)
    got = rotate(x, cos, sin)
    assert torch.equal(got[:, :, :rotary], want)
    assert torch.equal(got[:, :, rotary:], x[:, :, rotary:])


def test_bad_numbers_stay_in_their_row() -> None:
    x = torch.ones(3, 64).bfloat16()
    x[1, 5] = torch.nan
    for out in (rms_norm(x, torch.ones(64).bfloat16(), 1e-6), silu_mul(x)):
        assert torch.isfinite(out[[0, 2]]).all()
        assert not torch.isfinite(out[1]).all()


def test_what_does_not_fit_is_refused() -> None:
    x, ones = torch.ones(2, 8), torch.ones(8)
    calls: list[tuple[Tensor, ...]] = [(x, x[:1], ones), (x, x.bfloat16(), ones), (x, x, ones[:7])]
    for rows, residual, weight in calls:
        with pytest.raises(ValueError, match="another"):
            add_rms_norm(rows, residual, weight, 1e-6)
    with pytest.raises(ValueError, match="widths"):
        silu_mul(torch.ones(1, 3))
    with pytest.raises(ValueError, match="angles"):
        rotate(torch.ones(2, 1, 4), torch.ones(2, 6), torch.ones(2, 6))
    with pytest.raises(ValueError, match="angles"):
        rotate(torch.ones(2, 1, 4), torch.ones(1, 4), torch.ones(1, 4))
