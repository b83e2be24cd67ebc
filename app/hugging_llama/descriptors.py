"""A process that may open nothing more now: what it does not see then may be there all the same."""

import errno
import os

from hugging_llama.errors import EngineBusyError

_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


def descriptors_error(error: BaseException) -> EngineBusyError | None:
    """What is told of an error that means this, None for any other."""
    if not isinstance(error, OSError) or error.errno not in _OUT_OF_DESCRIPTORS:
        return None
    return EngineBusyError(
        "the server has as many files and connections open as it may; try again, or raise its limit (ulimit -n)",
        retry_after_s=1,
    )


def check_descriptors() -> None:
    """Raises EngineBusyError if no file can be opened now."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if told := descriptors_error(error):
            raise told from error
        raise
