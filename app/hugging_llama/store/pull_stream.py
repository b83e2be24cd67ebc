"""A pull as the web side sees it: an iterator over what a child process reports."""

import os
from typing import Literal

from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store import child_process, names, pull_process
from hugging_llama.store.child_stream import ChildStream, ChildTask
from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.local import Store
from hugging_llama.store.names import ModelName
from hugging_llama.store.pull import PullRequest
from hugging_llama.store.pull_slots import PullSlots
from hugging_llama.store.retry import RetryPolicy
from hugging_llama_config.settings import Settings

_DEFAULT_POLICY = RetryPolicy()


class PullStream(ChildStream):
    """The progress of a pull; raises what `pull.pull_files` raises.

    After `close` what has arrived is kept, and another pull of the same files goes on.
    """

    def __init__(self, request: PullRequest, slots: PullSlots) -> None:
        self._repo = request.name.repo
        task = ChildTask(
            module=pull_process.__name__,
            request=child_process.render_request(request),
            first=TransferProgress(status="pulling manifest"),
            word="download",
            repo=self._repo,
        )
        super().__init__(task, slots)

    def __next__(self) -> TransferProgress:
        is_begun = self._last is not None and not self._is_closed
        if is_begun and self._repo == names.DEMO_REPO:  # comes with us, is never on its way
            self.close()
            return TransferProgress(status="success")
        return super().__next__()


def pull(
    settings: Settings,
    store: Store,
    name: str,
    revision: str | None = None,
    *,
    trust_remote_code: bool = False,
    kind: Literal["model", "adapter"] = "model",
    allow_pickle: bool = False,
    policy: RetryPolicy = _DEFAULT_POLICY,
) -> PullStream:
    """Start to pull a model, or a LoRA adapter, into the Hub's cache; nothing happens before the first `next`.

    `revision` is another way to say what may follow the colon of the name. `allow_pickle` brings pickled weights where
    there are no others, which nothing loads before they are converted. Raises InvalidRequestError for bad syntax,
    for two different revisions, for the name of a model that a user named (an adapter answers to none), and for
    `trust_remote_code` where the operator's settings don't allow it.
    """
    wanted = names.parse_name(name)
    if revision:
        chosen = names.parse_revision(revision)
        if wanted.revision not in (names.DEFAULT_REVISION, chosen):
            raise InvalidRequestError("the name and `revision` ask for different revisions", param="revision")
        wanted = ModelName(wanted.repo, chosen)
    if trust_remote_code and not settings.trust_remote_code:
        raise InvalidRequestError("this server does not allow remote code", param="trust_remote_code")
    if kind == "model" and (own := store.named.find(wanted)):
        raise InvalidRequestError(
            f"{own.manifest.name} is a model that was made here: before you pull the Hub's, copy it to another name "
            "and delete it, or pull another revision (a branch, a tag or a commit)",
            param="model",
        )
    repo = store.stored_repo(wanted.repo)
    if names.DEMO_REPO in (repo.lower(), f"hugging-llama/{repo.lower()}"):
        repo = names.DEMO_REPO
    return PullStream(
        PullRequest(
            name=ModelName(repo, wanted.revision),
            cache=os.path.abspath(settings.hub_cache),
            access=HubAccess(endpoint=settings.hub_endpoint.rstrip("/"), token=settings.find_hub_token()),
            kind=kind,
            allow_code=trust_remote_code,
            allow_pickle=allow_pickle,
            can_convert=settings.allow_pickle and bool(settings.home),
            policy=policy,
        ),
        store.pull_slots,
    )
