"""Errors after which a process is of no use: on an accelerator (an assertion in a kernel, an access outside of its
memory) nothing works any more, for no model; and a thread in which oneDNN once found no memory for its code never gets
any again, however much is free, because the error is kept for the thread and nobody takes it back."""

import logging
import os

import torch

logger = logging.getLogger(__name__)

EXIT_STATUS = 70
NO_PRIMITIVE = "could not create a primitive"
"""oneDNN's words without memory for code or scratch; of what it can't compute it "could not create a … descriptor"."""


def is_device_lost(error: BaseException) -> bool:
    """True if `error` came from the accelerator and nothing can be done there since, or from oneDNN for good."""
    if isinstance(error, RuntimeError) and str(error) == NO_PRIMITIVE:
        return True
    if not isinstance(error, torch.AcceleratorError) or "CUDA error: out of memory" in str(error):
        return False
    try:
        torch.accelerator.synchronize()
    except RuntimeError:
        return True
    return False


def exit_if_device_lost(error: BaseException) -> None:
    """Ends the process if the device is lost.

    Every open stream then gets an error, by the end of its connection, and an engine that stands by takes over; to
    unload what lies on the device first would only fail, or hang.
    """
    if is_device_lost(error):
        is_short = str(error) == NO_PRIMITIVE
        what = "memory is short, and this process can't compute any more" if is_short else "the device is lost"
        logger.critical("%s, the engine ends: %s", what, str(error).split("\n")[0])
        logging.shutdown()
        os._exit(EXIT_STATUS)
