"""How much memory is free, and giving it back."""

import ctypes
import errno
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import psutil  # type: ignore[import-untyped]
import torch

from hugging_llama.engine.device_loss import NO_PRIMITIVE
from hugging_llama.errors import InsufficientMemoryError
from hugging_llama_config.control_group import memory_limits, own_groups

_SIGNS = (
    "allocate memory",
    "MPS backend out of memory",
    "can't start new thread",
    # of cuBLAS and its kind, which take their own: a thread's first product, and a workspace
    "_STATUS_ALLOC_FAILED",
    "_ALLOCATION_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDA error: out of memory",
)
LOAD_SHORTAGE = "there is not enough memory to load this model"


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated where models of `device` live; on the host within its control groups."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # torch keeps what was freed, for instance by a load that failed, and uses it again
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = int(psutil.virtual_memory().available)
    return max(0, min([free, *(group.limit - group.used for group in memory_limits(own_groups()))]))


def total_bytes(device: torch.device) -> int:
    """Bytes that there are where models of `device` live; on the host within its control groups."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return min([int(psutil.virtual_memory().total), *(group.limit for group in memory_limits(own_groups()))])


def is_out_of_memory(error: BaseException) -> bool:
    """True if an allocation has failed, on whatever device; a thread needs one for its stack."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # the allocators of the CPU and of MPS, and NVIDIA's libraries, have no class of their own
    text = str(error)
    return isinstance(error, RuntimeError) and (any(sign in text for sign in _SIGNS) or text == NO_PRIMITIVE)


def raise_if_out_of_memory(error: Exception) -> None:
    """For whoever takes an error as a no, and remembers it: a shortage says nothing of what was tried."""
    if is_out_of_memory(error):
        raise error


@contextmanager
def shortage_told(what: str) -> Iterator[None]:
    """Raises InsufficientMemoryError, which says `what`, in place of an allocation that failed."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise InsufficientMemoryError(what) from error
        raise


def settle() -> None:
    """Takes all that is there now out of later garbage collections.

    The libraries' own objects alone make one last half a second, in which no stream moves. Called once, before the
    first model is loaded.
    """
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Returns what unloaded models held to the device and to the operating system."""
    gc.collect()
    empty_cache(torch.accelerator.current_accelerator() or torch.device("cpu"))
    trim()


def empty_cache(device: torch.device) -> None:
    """Returns what torch keeps of freed memory to the device; nothing on the CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def trim() -> None:
    """Returns what was freed in the middle of the heap to the operating system; some 10 ms."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if malloc_trim is not None:
        malloc_trim(0)
