"""Ends Python code that takes too long, such as the reading of a text in pieces between its control tokens."""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hugging_llama.errors import InvalidRequestError

_LONGEST_READING_S = 120.0


class DeadlineExceeded(BaseException):
    """Raised in the thread whose time is up, at its next Python instruction."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises DeadlineExceeded in the block, or at its end, once it has run for `seconds`. Catch it around the block.

    Only code that executes Python instructions can be ended so; one long call into C is waited for.
    """
    thread_id = ctypes.c_ulong(threading.get_ident())
    lock = threading.Lock()
    is_over = False

    def interrupt() -> None:
        with lock:
            if not is_over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, ctypes.py_object(DeadlineExceeded))

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            is_over = True


def read_in_time(read: Callable[[], list[int]]) -> list[int]:
    """The ids of a rendered text.

    Raises InvalidRequestError where it has so many control tokens that this takes minutes.
    """
    try:
        with deadline(_LONGEST_READING_S):
            return read()
    except DeadlineExceeded:
        raise InvalidRequestError("this text takes too long to be tokenised; send less") from None
