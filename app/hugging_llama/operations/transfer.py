"""Models from the Hub."""

from typing import Literal

from hugging_llama.neutral.events import EventStream
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.operations.audit import audited
from hugging_llama.operations.context import AppContext
from hugging_llama.store import pull_stream


@audited("pull", "model", "revision", is_long=True)
def pull_model(
    ctx: AppContext,
    name: str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    kind: Literal["model", "adapter"] = "model",
    allow_pickle: bool = False,
) -> EventStream[TransferProgress]:
    """Bring a model, or a LoRA adapter, into the Hub's cache: an iterator of TransferProgress whose `close` stops it.

    `allow_pickle` is for those who convert what came.

    Raises InvalidRequestError at once; iterating raises ModelNotFoundError, GatedModelError, KeyRejectedError,
    InvalidRequestError for an unknown revision, and TransferError.
    """
    pull = pull_stream.pull(
        ctx.settings, ctx.store, name, revision,
        trust_remote_code=trust_remote_code, kind=kind, allow_pickle=allow_pickle,
    )  # fmt: skip
    return ctx.observer.transfer("pull", pull)
