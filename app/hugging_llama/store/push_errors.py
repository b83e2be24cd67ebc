"""What huggingface_hub raises during a push, as our errors."""

import traceback
from collections.abc import Iterator

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hugging_llama.errors import (
    GatedModelError,
    HuggingLlamaError,
    InvalidRequestError,
    KeyRejectedError,
    TransferError,
    WriteForbiddenError,
)
from hugging_llama.store.hub_http import TRANSIENT_STATUS, HubAccess, retry_after_s
from hugging_llama.store.retry import TransientError

_CONFLICT_STATUS = frozenset({409, 412})
_MAX_WORDS = 300


def as_ours(error: BaseException, repo: str, access: HubAccess) -> HuggingLlamaError | TransientError | None:
    """The error in our terms, TransientError for one that may go away; None for one that nobody expects.

    Workers' threads wrap what they meet, so causes are looked at, too.
    """
    for item in _chain(error):
        if isinstance(item, HuggingLlamaError | TransientError):
            return item
        if isinstance(item, OfflineModeIsEnabled):
            return TransferError(f"offline mode is on: {access.host} is not contacted", repo=repo, cause="offline")
        if isinstance(item, HFValidationError):
            return InvalidRequestError(f"{access.host} takes no repository with the name {repo}", param="model")
        if isinstance(item, HfHubHTTPError):
            return _of_status(item, repo, access)
        if _is_network(item):
            cause = _words(str(item)) or "the connection was cut"
            is_unreachable = "ConnectError" in _class_names(item)
            return TransientError(f"no answer from {access.host}: {cause}", is_unreachable=is_unreachable)
        if isinstance(item, OSError) and item.filename:
            cause = (item.strerror or "input/output error").lower()
            return TransferError(f"a file of the model can't be read: {cause}", repo=repo, cause=cause)
        if isinstance(item, ValueError) or (
            isinstance(item, LookupError | TypeError | AttributeError) and _is_theirs(item)
        ):
            return _of_check(item, repo, access)
    return None


def _of_check(error: Exception, repo: str, access: HubAccess) -> TransferError:
    """The library's checks, also those by mere use: the Hub's word on a file or the card, else a reply's form."""
    words = _words(str(error))
    if "LFS batch API" in words:
        return TransferError(f"{access.host} refuses a file: {words}", repo=repo, cause="refused")
    if "metadata in README.md" in words:
        return TransferError(f"{access.host} refuses the model card: {words}", repo=repo, cause="card")
    return TransferError(f"a reply of {access.host} can't be used", repo=repo, cause="bad reply")


def _of_status(error: HfHubHTTPError, repo: str, access: HubAccess) -> HuggingLlamaError | TransientError:
    status, words = error.response.status_code, _words(error.server_message or "")
    said = f": {words}" if words else ""
    if status in TRANSIENT_STATUS:
        wait_s = retry_after_s(error.response.headers)
        return TransientError(f"{access.host} answered {status}{said}", retry_after_s=wait_s)
    if isinstance(error, GatedRepoError):
        page = f"{access.public_endpoint}/{repo}"
        return GatedModelError(f"access to {repo} must be granted first: see {page}", repo=repo, url=page)
    if status == 401:
        return KeyRejectedError(f"{access.host} rejects the token{said}", realm=access.host)
    if isinstance(error, RevisionNotFoundError):
        return InvalidRequestError(f"{repo} has no such branch to push to", param="model")
    if status == 403 or isinstance(error, RepositoryNotFoundError):
        return WriteForbiddenError(
            f"{access.host} does not let this token write to {repo}{said}; the token needs the right to write, and its "
            "owner a place in that organisation",
            repo=repo,
        )
    if status in _CONFLICT_STATUS:
        return TransferError(
            f"{repo} was changed while the model was pushed; push it again", repo=repo, cause="conflict"
        )
    if status in (402, 413):
        return TransferError(f"{access.host} takes no more bytes for {repo}{said}", repo=repo, cause="quota")
    return TransferError(f"{access.host} answered {status}{said}", repo=repo, cause=f"status {status}")


def _is_network(error: BaseException) -> bool:
    """Whether the HTTP library failed below HTTP. It is httpx or httpx2, so its class is known by its name."""
    return "TransportError" in _class_names(error)


def _is_theirs(error: BaseException) -> bool:
    """Whether the library itself stumbled: it takes replies for what they should be."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get("__name__")).startswith("huggingface_hub.")


def _class_names(error: BaseException) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _words(text: str) -> str:
    """What a Hub said, fit for a sentence: one line of printable letters, not too long."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()[:_MAX_WORDS]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
