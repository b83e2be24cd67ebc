"""The child process of a pull: `python -m hugging_llama.store.pull_process FD`, FD being a connected socket.

In comes one line of JSON, the request; out go lines of JSON, progress and then "done" or an error. In a process of
its own, hashing, TLS and a slow disk never hold up the requests that a web worker serves. It ends when its parent
lets go of the socket, however the parent ended.
"""

import dataclasses
import json
import logging
import os
import socket
import sys
import threading
from typing import Any

from hugging_llama.errors import HuggingLlamaError, TransferError, error_from_facts
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.names import ModelName
from hugging_llama.store.pull import PullRequest, pull_files
from hugging_llama.store.retry import RetryPolicy

_log = logging.getLogger(__name__)
# Serving comes first: under load a pull takes what the engine leaves.
_NICENESS = 5


def render_request(request: PullRequest) -> bytes:
    """The request as the child reads it."""
    return json.dumps(dataclasses.asdict(request)).encode() + b"\n"


def parse_message(line: bytes) -> TransferProgress | HuggingLlamaError | None:
    """What a line of the child says: progress, the error that ended it, or None at its good end."""
    message: dict[str, Any] = json.loads(line)
    if "progress" in message:
        return TransferProgress(**message["progress"])
    if "error" in message:
        return error_from_facts(**message["error"])
    return None


def main(fd: int) -> None:
    """Serve one pull over the socket `fd`."""
    os.nice(_NICENESS)
    parent = socket.socket(fileno=fd)
    parent.settimeout(None)
    request = _parse_request(parent.makefile("rb").readline())
    threading.Thread(target=_die_with_parent, args=(parent,), daemon=True).start()
    try:
        for progress in pull_files(request):
            _send(parent, {"progress": dataclasses.asdict(progress)})
        _send(parent, {"done": True})
    except HuggingLlamaError as error:
        _send(parent, {"error": {"code": error.code, "message": error.message, "facts": error.facts}})
    except Exception:
        _log.exception("pull of %s failed", request.name.display)
        failure = TransferError("the download failed unexpectedly", repo=request.name.repo, cause="internal")
        _send(parent, {"error": {"code": failure.code, "message": failure.message, "facts": failure.facts}})


def _parse_request(line: bytes) -> PullRequest:
    fields: dict[str, Any] = json.loads(line)
    fields["name"] = ModelName(**fields["name"])
    fields["access"] = HubAccess(**fields["access"])
    fields["policy"] = RetryPolicy(**fields["policy"])
    return PullRequest(**fields)


def _send(parent: socket.socket, message: dict[str, Any]) -> None:
    try:
        parent.sendall(json.dumps(message).encode() + b"\n")
    except OSError:  # nobody listens any more; what has arrived is kept
        os._exit(0)


def _die_with_parent(parent: socket.socket) -> None:
    while parent.recv(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
