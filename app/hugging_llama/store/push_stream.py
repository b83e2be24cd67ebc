"""A push as the web side sees it: an iterator over what a child process reports."""

from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store import child_process
from hugging_llama.store.child_stream import ChildStream, ChildTask
from hugging_llama.store.pull_slots import PullSlots
from hugging_llama.store.push_request import PushRequest

# Named, not imported: it brings all of huggingface_hub.
_PROCESS = "hugging_llama.store.push_process"


def push(request: PushRequest, slots: PullSlots) -> ChildStream:
    """Start a push; nothing happens before the first `next`. Iterating raises what `push.push_files` raises.

    Closing it ends the push: what has arrived of big files may stay on the Hub, unseen, but there is no commit.
    """
    task = ChildTask(
        module=_PROCESS,
        request=child_process.render_request(request),
        first=TransferProgress(status="retrieving manifest"),
        word="upload",
        repo=request.name.repo,
    )
    return ChildStream(task, slots)
