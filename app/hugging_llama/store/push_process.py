"""The child process of a push: `python -m hugging_llama.store.push_process FD`, FD being a connected socket."""

import contextlib
import json
import resource
import sys
from typing import Any

from hugging_llama.errors import TransferError
from hugging_llama.store import child_process
from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.names import ModelName
from hugging_llama.store.push import push_files
from hugging_llama.store.push_request import PushFile, PushRequest
from hugging_llama.store.retry import RetryPolicy

# huggingface_hub reads replies whole, however long they are
_MAX_MEMORY_BYTES = 4 * 2**30


def main(fd: int) -> None:
    """Serve one push over the socket `fd`."""
    with contextlib.suppress(ValueError, OSError):  # a lower limit is there already, or the system knows none
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    unexpected = TransferError("the upload failed unexpectedly", cause="internal")
    child_process.serve(fd, lambda line: push_files(_parse_request(line)), unexpected)


def _parse_request(line: bytes) -> PushRequest:
    fields: dict[str, Any] = json.loads(line)
    fields["name"] = ModelName(**fields["name"])
    fields["files"] = tuple(PushFile(**file) for file in fields["files"])
    fields["access"] = HubAccess(**fields["access"])
    fields["policy"] = RetryPolicy(**fields["policy"])
    return PushRequest(**fields)


if __name__ == "__main__":
    main(int(sys.argv[1]))
