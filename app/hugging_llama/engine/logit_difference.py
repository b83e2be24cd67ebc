"""How far two computations of the same logits may be apart."""

import torch
from torch import Tensor

# the largest difference of logits, relative to their spread: (at all positions, at three quarters of them). In
# half precision single positions differ more, for example where a router chooses another expert by a hair
_TOLERANCE = {torch.float32: (1e-3, 1e-3), torch.float64: (1e-6, 1e-6)}
_HALF_TOLERANCE = (0.5, 0.06)


def allowed_difference(dtype: torch.dtype) -> tuple[float, float]:
    """The bounds of `worst_and_most` for a model of that dtype."""
    return _TOLERANCE.get(dtype, _HALF_TOLERANCE)


def worst_and_most(ours: Tensor, plain: Tensor) -> tuple[float, float]:
    """How far logits `[n, vocab_size]` are apart, relative to their spread: at worst, at three quarters of n."""
    ours, plain = ours.float(), plain.float()
    spread = plain - plain.mean(dim=-1, keepdim=True)
    difference: Tensor = (ours - plain).norm(dim=-1) / spread.norm(dim=-1).clamp(min=1e-30)
    return difference.max().item(), difference.quantile(0.75).item()


def is_within(worst: float, most: float, allowed: tuple[float, float]) -> bool:
    """False for NaN."""
    return worst <= allowed[0] and most <= allowed[1]
