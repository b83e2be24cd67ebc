"""Answers that are kept: save one, find it again, go on from it, forget it. Each is there for its own caller alone."""

import logging
from collections.abc import Iterable

from hugging_llama.errors import InvalidRequestError, PreviousResponseError, ResponseNotFoundError, StorageError
from hugging_llama.neutral.stored import StoredResponse
from hugging_llama.operations.context import AppContext

logger = logging.getLogger(__name__)


def keep_response(ctx: AppContext, response: StoredResponse, owner: str) -> bool:
    """Whether it is kept, for a caller of this name; a disk that refuses breaks no answer."""
    if not ctx.responses.is_on:
        return False
    try:
        ctx.responses.save(response, owner)
    except StorageError as error:
        logger.warning("a response is not kept: %s", error.message)
        return False
    return True


def keeps_responses(ctx: AppContext) -> bool:
    """Whether this server keeps any."""
    return ctx.responses.is_on


def find_response(ctx: AppContext, id: str) -> StoredResponse:
    """Raises ResponseNotFoundError, StorageError."""
    found = ctx.responses.find(id, ctx.caller().id)
    if found is None:
        raise ResponseNotFoundError(id)
    return found


def find_previous(ctx: AppContext, id: str) -> StoredResponse:
    """The answer that a request goes on from. Raises PreviousResponseError, StorageError, and InvalidRequestError where
    nothing is kept."""
    if not ctx.responses.is_on:
        raise InvalidRequestError(
            "this server keeps no responses (HUGGING_LLAMA_STORE_RESPONSES is false): send the whole conversation in "
            "'input' instead of 'previous_response_id'",
            param="previous_response_id",
        )
    found = ctx.responses.find(id, ctx.caller().id)
    if found is None:
        raise PreviousResponseError(id)
    return found


def find_items(ctx: AppContext, ids: Iterable[str]) -> dict[str, bytes]:
    """The kept items of these ids that there are. Raises StorageError."""
    return ctx.responses.items(ids, ctx.caller().id)


def delete_response(ctx: AppContext, id: str) -> None:
    """Raises ResponseNotFoundError, StorageError."""
    if not ctx.responses.delete(id, ctx.caller().id):
        raise ResponseNotFoundError(id)
