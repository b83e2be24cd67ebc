"""A named model to the Hub."""

from collections.abc import Callable

from hugging_llama.errors import InvalidRequestError, KeyRejectedError
from hugging_llama.neutral.events import EventStream
from hugging_llama.neutral.models import LocalModel
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.operations.audit import audited
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.models import resolve_model
from hugging_llama.store import names, push_stream
from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.names import ModelName
from hugging_llama.store.push_files import files_of
from hugging_llama.store.push_request import PushRequest

# What the Hub takes for a repository's id.
_MAX_REPO = 96


@audited("push", "model", is_long=True)
def push_model(
    ctx: AppContext,
    name: str,
    token: str,
    *,
    modelfile: Callable[[LocalModel], str],
    private: bool | None = None,
) -> EventStream[TransferProgress]:
    """Push a named model to the repository that its own name is: an iterator of TransferProgress whose `close` ends it.

    `token` is the caller's, "" for the one of the settings. `modelfile` writes the text that is pushed beside the
    files. `private` is for a repository that is new. Raises InvalidRequestError, ModelNotFoundError and
    KeyRejectedError at once; iterating raises what `store.push.push_files` raises.
    """
    model = resolve_model(ctx, name)
    target = _target(model)
    endpoint = ctx.settings.hub_endpoint.rstrip("/")
    access = HubAccess(endpoint=endpoint, token=token or ctx.settings.find_hub_token())
    if not access.token:
        raise KeyRejectedError(
            f"{access.host} takes models from known users only: send a token that may write in the header X-HF-Token, "
            "or set HF_TOKEN or log in with 'hf auth login' where the server runs",
            realm=access.host,
        )
    files = files_of(model, target.repo, modelfile(model))
    request = PushRequest(name=target, files=files, access=access, private=private)
    return ctx.observer.transfer("push", push_stream.push(request, ctx.store.pull_slots))


def _target(model: LocalModel) -> ModelName:
    """The repository and branch that a model's own name says. Raises InvalidRequestError."""
    if not model.is_named:
        raise InvalidRequestError(
            "this model has no name of yours: copy it to one, such as your-name/its-name, and push that", param="model"
        )
    target = names.parse_name(model.ref.name)
    if "/" not in target.repo:
        raise InvalidRequestError(
            f"a model is pushed to the repository that its name says: copy {target.display} to "
            f"your-name/{target.repo} first",
            param="model",
        )
    if len(target.repo) > _MAX_REPO or target.repo.lower().endswith(".git"):
        raise InvalidRequestError("the Hub takes no repository with this name: copy the model to another one")
    if target.is_commit:
        raise InvalidRequestError("a model is pushed to a branch, not to a commit: copy it to a name without one")
    return target
