"""The child process of a pull: `python -m hugging_llama.store.pull_process FD`, FD being a connected socket."""

import json
import sys
from typing import Any

from hugging_llama.errors import TransferError
from hugging_llama.store import child_process
from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.names import ModelName
from hugging_llama.store.pull import PullRequest, pull_files
from hugging_llama.store.retry import RetryPolicy


def main(fd: int) -> None:
    """Serve one pull over the socket `fd`."""
    unexpected = TransferError("the download failed unexpectedly", cause="internal")
    child_process.serve(fd, lambda line: pull_files(_parse_request(line)), unexpected)


def _parse_request(line: bytes) -> PullRequest:
    fields: dict[str, Any] = json.loads(line)
    fields["name"] = ModelName(**fields["name"])
    fields["access"] = HubAccess(**fields["access"])
    fields["policy"] = RetryPolicy(**fields["policy"])
    return PullRequest(**fields)


if __name__ == "__main__":
    main(int(sys.argv[1]))
