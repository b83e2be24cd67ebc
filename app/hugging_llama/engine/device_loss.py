"""The end of a device: after some errors (an assertion in a kernel, an access outside of its memory) nothing works on
it any more in this process, for no model."""

import logging
import os

import torch

logger = logging.getLogger(__name__)

EXIT_STATUS = 70


def is_device_lost(error: BaseException) -> bool:
    """True if `error` came from the accelerator and nothing can be done there since."""
    if not isinstance(error, torch.AcceleratorError):
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
        logger.critical("the device is lost, the engine ends: %s", str(error).split("\n")[0])
        logging.shutdown()
        os._exit(EXIT_STATUS)
