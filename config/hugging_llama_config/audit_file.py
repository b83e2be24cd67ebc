"""The file of the audit log: how it is opened, and what is said where it can't be."""

import errno
import os
import stat

_FLAGS = os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe that nobody reads would be waited for
_WORDS = {
    errno.EISDIR: "it is a folder; name a file in it",
    errno.ELOOP: "it is a symbolic link, which is not followed; name the file that it leads to",
    errno.ENXIO: "it is no regular file",
}


class AuditFileError(Exception):
    """No line can be added; one line for operators."""


def open_audit_file(path: str, *, is_made: bool) -> int:
    """A descriptor for adding lines, and for reading where the file's rights allow that; `is_made` if it is not there,
    for this user alone. Raises OSError, also for anything but a regular file."""
    flags = _FLAGS | (os.O_CREAT if is_made else 0)
    try:
        try:
            fd = os.open(path, os.O_RDWR | flags, 0o600)
        except PermissionError:
            fd = os.open(path, os.O_WRONLY | flags, 0o600)
    except OSError as error:
        code = error.errno or 0
        raise OSError(code, _WORDS.get(code, error.strerror)) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, _WORDS[errno.ENXIO])
    return fd


def problem_text(path: str, reason: str) -> str:
    """A line for the operator."""
    return f"HUGGING_LLAMA_AUDIT_LOG: {path} can't be written: {reason}"


def check_audit_file(path: str) -> None:
    """Before a server starts; "" is none. Nothing is made here: whoever asks may be another user than who writes.
    Raises AuditFileError if no line can be added."""
    if path and (reason := why_not(path)):
        raise AuditFileError(problem_text(path, reason))


def why_not(path: str) -> str:
    """Why no line can be added, "" if one can."""
    try:
        os.close(open_audit_file(path, is_made=False))
    except FileNotFoundError:
        folder = os.path.dirname(os.path.abspath(path))
        return "" if os.access(folder, os.W_OK | os.X_OK) else f"no file can be made in {folder}"
    except OSError as error:
        return str(error.strerror)
    return ""
