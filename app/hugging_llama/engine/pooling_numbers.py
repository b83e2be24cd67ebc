"""The rows of a forward's outputs as what answers hold."""

from array import array

from torch import Tensor


def packed(row: Tensor) -> "array[float]":
    """A row of float32 in main memory."""
    values = array("f")
    values.frombytes(row.numpy().tobytes())
    return values
