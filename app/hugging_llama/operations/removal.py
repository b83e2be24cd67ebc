"""Models copied to another name, and deleted."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from hugging_llama.errors import InvalidRequestError, ModelNotFoundError
from hugging_llama.operations.audit import audited
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.models import disk_errors, resolve_model
from hugging_llama.operations.residency import unload_named
from hugging_llama.store import names, removal
from hugging_llama.store.blocking import run_blocking

_SHOWN = 100


@audited("copy", "model", "to")
def copy_model(ctx: AppContext, source: str, destination: str) -> None:
    """Give a model another name, in place of the named model that had it. Weights are not copied.

    A copy of a model of the Hub stays what that is now: it is pinned to the commit. Raises InvalidRequestError,
    ModelNotFoundError, HuggingLlamaError if the disk fails.
    """
    with _blamed_on("source", source):
        names.check_base(source)
    with _blamed_on("destination", destination):
        target = names.parse_own_name(destination)
    with disk_errors(), ctx.store.lock():
        if ctx.store.is_of_hub(target):
            raise InvalidRequestError(
                "this name belongs to a model of the Hub; choose another one", param="destination"
            )
        manifest = ctx.store.manifest(resolve_model(ctx, source))
        before = ctx.store.named.find(target)
        name = before.manifest.name if before else target.display
        copy = msgspec.structs.replace(manifest, name=name)
        if before and before.manifest == copy:
            return
        ctx.store.named.write(copy)
    if before:  # what is in memory is as the model was
        unload_named(ctx, name)


@audited("delete", "model", is_long=True)
def delete_model(ctx: AppContext, name: str) -> int:
    """Delete a model from disk and memory, and what no other model needs of it; returns the bytes that went.

    Raises ModelNotFoundError; InvalidRequestError for a model that comes with the server, lies in the operator's
    folders, is being pulled or is needed under another name; HuggingLlamaError if the disk fails.
    """
    with _blamed_on("name", name):
        names.check_base(name)
    with disk_errors(), ctx.store.lock():
        removed = run_blocking(removal.remove_model, ctx.settings, ctx.store, name)
    if removed is None:
        raise ModelNotFoundError(name, name)
    unload_named(ctx, removed.name, removed.lost_folder)
    return removed.freed_bytes


@contextmanager
def _blamed_on(param: str, text: str) -> Iterator[None]:
    try:
        yield
    except InvalidRequestError as error:
        raise InvalidRequestError(f'{param} "{text[:_SHOWN]}" is invalid', param=param) from error
