"""A pull from start to end, shown as it goes."""

import contextlib
import sys

from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.errors import ServerError
from hugging_llama_cli.progress import PullProgress


def download(
    server: Server,
    model: str,
    progress: PullProgress,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Have the server pull `model`, shown by `progress`.

    Raises ServerError, also if the stream ends without a word of success.
    """
    body: Json = {"model": model}
    if revision:
        body["revision"] = revision
    if trust_remote_code:
        body["trust_remote_code"] = True
    status = ""
    try:
        with contextlib.closing(progress), contextlib.closing(server.stream("/api/pull", body)) as events:
            for event in events:
                progress.show(event)
                status = str(event.get("status") or "")
    except KeyboardInterrupt:
        print("interrupted; what has arrived is kept, and another pull goes on from there", file=sys.stderr)
        raise
    if status != "success":
        raise ServerError("the server ended the pull before it was complete; run it again to go on")
