"""The child's side of a transfer that runs in a process of its own; the parent's is `child_connection`.

In comes one line of JSON over a connected socket, the request; out go lines of JSON, progress and then "done" or an
error. In a process of its own, hashing, TLS and a slow disk never hold up the requests that a web worker serves. It
ends when its parent lets go of the socket, however the parent ended.
"""

import contextlib
import dataclasses
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from hugging_llama.errors import HuggingLlamaError, error_from_facts
from hugging_llama.neutral.transfer import TransferProgress

_log = logging.getLogger(__name__)
# Serving comes first: under load a transfer takes what the engine leaves.
_NICENESS = 5


def render_request(request: Any) -> bytes:
    """A dataclass as the child reads it."""
    return json.dumps(dataclasses.asdict(request)).encode() + b"\n"


def parse_message(line: bytes) -> TransferProgress | HuggingLlamaError | None:
    """What a line of the child says: progress, the error that ended it, or None at its good end."""
    message: dict[str, Any] = json.loads(line)
    if "progress" in message:
        return TransferProgress(**message["progress"])
    if "error" in message:
        return error_from_facts(**message["error"])
    return None


def serve(fd: int, work: Callable[[bytes], Iterable[TransferProgress]], unexpected: HuggingLlamaError) -> None:
    """Do the `work` of one request over the socket `fd`; `unexpected` is told of what `work` should not raise."""
    os.nice(_NICENESS)
    parent = socket.socket(fileno=fd)
    parent.settimeout(None)
    request = parent.makefile("rb").readline()
    threading.Thread(target=_die_with_parent, args=(parent,), daemon=True).start()
    try:
        for progress in work(request):
            _send(parent, {"progress": dataclasses.asdict(progress)})
        _send(parent, {"done": True})
    except HuggingLlamaError as error:
        _send_error(parent, error)
    except Exception:
        _log.exception("%s", unexpected.message)
        _send_error(parent, unexpected)


def _send_error(parent: socket.socket, error: HuggingLlamaError) -> None:
    _send(parent, {"error": {"code": error.code, "message": error.message, "facts": error.facts}})


def _send(parent: socket.socket, message: dict[str, Any]) -> None:
    try:
        parent.sendall(json.dumps(message).encode() + b"\n")
    except OSError:  # nobody listens any more
        os._exit(0)


def _die_with_parent(parent: socket.socket) -> None:
    # a parent that was killed before it had read all is a reset
    with contextlib.suppress(OSError):
        while parent.recv(4096):
            pass
    os._exit(0)
