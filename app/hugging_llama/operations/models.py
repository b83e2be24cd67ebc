"""The models on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager

from hugging_llama.errors import EngineBusyError
from hugging_llama.neutral.models import LocalModel
from hugging_llama.operations.context import AppContext
from hugging_llama.store.disk_errors import HOME, disk_error
from hugging_llama.store.names import is_path, parse_name


def list_models(ctx: AppContext) -> list[LocalModel]:
    """All local models that can be served, newest first."""
    return ctx.store.list()


def resolve_model(ctx: AppContext, name: str) -> LocalModel:
    """The local model that a name means. Raises ModelNotFoundError; InvalidRequestError for bad syntax."""
    return ctx.store.resolve(name)


def full_name(name: str) -> str:
    """The name as lists show it, whether or not there is such a model. Raises InvalidRequestError, CloudModelError."""
    return name if is_path(name) else parse_name(name).display


def names_of(ctx: AppContext, name: str) -> tuple[str, ...]:
    """The full name of a model that is here, and the others that mean it."""
    return (name, *ctx.store.other_names(name))


@contextmanager
def disk_errors() -> Iterator[None]:
    """What the disk can do to a change of the models here, in words without paths.

    Raises EngineBusyError where another change takes too long, TransferError for all else.
    """
    try:
        yield
    except TimeoutError as error:
        raise EngineBusyError("the models are being changed by another request", retry_after_s=1) from error
    except OSError as error:
        raise disk_error(error, HOME) from error
