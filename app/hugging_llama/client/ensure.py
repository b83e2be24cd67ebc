"""A connection to the engine, which is started if there is none.

The gunicorn hook, a mounted app's first request and the recovery from a killed supervisor come to the same: connect,
and where nobody listens, try to become the one who starts it.
"""

import socket
import time

from hugging_llama.errors import EngineDiedError
from hugging_llama_config.launch import LaunchError, is_failing, socket_path, start_supervisor
from hugging_llama_config.settings import Settings

START_TIMEOUT_S = 120.0
"""Importing torch takes seconds, on a cold and busy machine many."""
_POLL_S = 0.02


def connect_engine(settings: Settings, timeout_s: float) -> socket.socket:
    """A connection to a running engine. Raises OSError if none listens; never starts one."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(socket_path(settings))
    except BaseException:
        connection.close()
        raise
    return connection


def ensure_engine(
    settings: Settings, life_line: int | None = None, timeout_s: float = START_TIMEOUT_S
) -> socket.socket:
    """A connection to the engine. Starts one if needed and waits until it listens; raises EngineDiedError.

    Any number of threads, greenlets and processes may call this at once: exactly one starts an engine.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return connect_engine(settings, timeout_s=max(_POLL_S, deadline - time.monotonic()))
        except LaunchError as error:
            raise EngineDiedError(str(error)) from None
        except OSError:
            if not _try_to_start(settings, life_line) and is_failing(settings):
                raise EngineDiedError("the engine ends again and again; see the server's log") from None
        if time.monotonic() >= deadline:
            raise EngineDiedError(f"the engine did not start within {timeout_s:g} s")
        # its supervisor may be importing, waiting after a crash, or ending: look again
        time.sleep(_POLL_S)


def _try_to_start(settings: Settings, life_line: int | None) -> bool:
    try:
        return start_supervisor(settings, life_line)
    except (LaunchError, OSError) as error:
        raise EngineDiedError(f"no engine can be started: {error}") from None
