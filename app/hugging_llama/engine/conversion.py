"""`python -m hugging_llama.engine.conversion FD`: writes the weights of one model anew as safetensors.

A process of its own, because the files come from strangers and libraries written in C read them: it has limits on
memory, time and file size, no network, no token, and the lowest priority. FD is a connected socket. In comes one line
of JSON, a ConversionRequest; out go lines of JSON, progress and then "done" or an error. It ends when its parent lets
go of the socket, however the parent ended, and takes its folder along.
"""

import contextlib
import errno
import json
import logging
import os
import resource
import shutil
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from hugging_llama.engine.panics import panics_as_errors
from hugging_llama.errors import (
    HuggingLlamaError,
    InsufficientMemoryError,
    InvalidRequestError,
    ModelLoadError,
    TransferError,
)
from hugging_llama.neutral.conversion import ConversionRequest

_log = logging.getLogger(__name__)
_NICENESS = 10
_LIBRARY_BYTES = 4 * 2**30
"""Address space for the interpreter, torch, transformers and a tokenizer with a large vocabulary."""
_BASE_CPU_S = 300
_LAST_CPU_S = 5
_BYTES_A_CPU_S = 5 * 2**20
_MAX_FILE_BYTES = 64 * 2**30


def main(fd: int) -> None:
    """Serve one conversion over the socket `fd`."""
    os.nice(_NICENESS)
    parent = socket.socket(fileno=fd)
    parent.settimeout(None)
    request = ConversionRequest.from_line(parent.makefile("rb").readline())
    folder = Path(request.target).parent
    watch = threading.Thread(target=_die_with_parent, args=(parent, folder), daemon=True)
    watch.start()
    try:
        _serve(parent, request)
    except ConnectionError:  # the parent is gone: that thread clears away and ends this process
        watch.join()


def _serve(parent: socket.socket, request: ConversionRequest) -> None:
    try:
        _limit(request)
        _send(parent, {"progress": {"status": "converting model"}})
        convert(request)
        _send(parent, {"done": True})
    except HuggingLlamaError as error:
        _send(parent, {"error": {"code": error.code, "message": error.message, "facts": error.facts}})


def convert(request: ConversionRequest) -> None:
    """Write the new files into `request.target`, which is there and empty.

    Raises InvalidRequestError, InsufficientMemoryError, TransferError for a full disk; nothing else, whatever is in
    the files.
    """
    try:
        # torch comes in here: the parent is answered by then, and limits hold
        import torch

        from hugging_llama.engine import conversion_gguf, conversion_pickle
        from hugging_llama.engine.memory import free_bytes

        torch.set_num_threads(1)
        need, free = memory_bytes(request), free_bytes(torch.device("cpu"))
        if need > free:
            raise _no_memory(need, free)
        with panics_as_errors():
            if request.gguf:
                conversion_gguf.convert(request, request.gguf)
            else:
                conversion_pickle.convert(request)
    except ModelLoadError as error:  # vetting says it of a model that is there
        raise InvalidRequestError(f"this model can't be converted: {error.message}", param="files") from error
    except HuggingLlamaError:
        raise
    except Exception as error:
        _log.warning("a model could not be converted", exc_info=True)
        raise _failure(error) from error


def memory_bytes(request: ConversionRequest) -> int:
    """What a conversion takes at its peak besides the libraries: all weights once, a file of them twice."""
    return request.weight_bytes + 2 * request.largest_bytes


def _failure(error: Exception) -> HuggingLlamaError:
    """What may be told of a library's error: its text holds paths, so only its kind is used."""
    from hugging_llama.engine.memory import is_out_of_memory

    if is_out_of_memory(error):
        return InsufficientMemoryError("there is not enough memory to convert this model")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return TransferError("no space is left on the disk for the converted model", cause="disk full")
    return InvalidRequestError(
        "this model can't be converted: its files do not fit together or its kind is not supported", param="files"
    )


def _no_memory(need: int, free: int) -> InsufficientMemoryError:
    return InsufficientMemoryError(
        f"converting this model takes about {need} bytes of memory, {free} are free", need_bytes=need, free_bytes=free
    )


def _limit(request: ConversionRequest) -> None:
    """Limits of this process. The files that are read lie in its address space, too."""
    space = _LIBRARY_BYTES + 2 * memory_bytes(request)
    cpu_s = _BASE_CPU_S + (request.weight_bytes + request.largest_bytes) // _BYTES_A_CPU_S
    limits = {
        resource.RLIMIT_AS: (space, space),
        # at the first it ends with SIGXCPU, which the parent understands
        resource.RLIMIT_CPU: (cpu_s, cpu_s + _LAST_CPU_S),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_FSIZE: (_MAX_FILE_BYTES, _MAX_FILE_BYTES),
    }
    for kind, wanted in limits.items():
        _, most = resource.getrlimit(kind)
        soft, hard = (value if most == resource.RLIM_INFINITY else min(value, most) for value in wanted)
        resource.setrlimit(kind, (soft, hard))


def _send(parent: socket.socket, message: dict[str, Any]) -> None:
    try:
        parent.sendall(json.dumps(message).encode() + b"\n")
    except OSError:  # nobody listens any more, which the other thread notices, too
        threading.Event().wait()


def _die_with_parent(parent: socket.socket, folder: Path) -> None:
    # a parent that was killed before it had read all is a reset
    with contextlib.suppress(OSError):
        while parent.recv(4096):
            pass
    # the other thread may be writing; once the folder itself is gone it can't make new files
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s conversion: %(message)s")
    main(int(sys.argv[1]))
