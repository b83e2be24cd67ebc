"""One row under one grammar."""

from torch import Tensor

from hugging_llama.engine.grammars.bits import all_bits, masked
from hugging_llama.engine.grammars.mask import GrammarMask


def constrained(row: Tensor, mask: GrammarMask) -> Tensor:
    """`row` `[width]` with minus infinity for what may not come next."""
    bits = all_bits(1, len(row))
    mask.fill(bits[0])
    return masked(row[None], bits)[0]
