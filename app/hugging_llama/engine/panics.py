"""Panics of libraries in Rust (tokenizers, safetensors, llguidance), which no `except Exception` catches."""

from collections.abc import Iterator
from contextlib import contextmanager


class PanicError(Exception):
    """A library met something that its authors held impossible, in files made to be so."""


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raises PanicError in place of a panic; else it would end a thread on whose answer others wait."""
    try:
        yield
    except BaseException as error:
        # the class is made anew by each library, its base is BaseException, and nobody exports it
        if isinstance(error, Exception) or type(error).__name__ != "PanicException":
            raise
        raise PanicError(str(error)) from error
