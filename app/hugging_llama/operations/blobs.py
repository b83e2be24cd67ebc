"""Files that users upload to make models of."""

import re
from collections.abc import Callable

from hugging_llama.errors import BodyTooLargeError, InvalidRequestError
from hugging_llama.operations.audit import audited
from hugging_llama.operations.context import AppContext

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


def parse_digest(text: str) -> str:
    """The hex characters of `sha256:<hex>`; `-` does for the colon. Raises InvalidRequestError."""
    if found := _DIGEST.fullmatch(text):
        return found[1]
    raise InvalidRequestError("invalid digest format", param="digest")


def has_blob(ctx: AppContext, digest: str) -> bool:
    """Whether the content is here. Raises InvalidRequestError."""
    return ctx.store.blobs.has(parse_digest(digest))


@audited("upload", "digest")
def receive_blob(ctx: AppContext, digest: str, read: Callable[[int], bytes], size_bytes: int | None) -> bool:
    """Keep the content that `read` gives piece by piece; whether it was not here before, else nothing is read.

    `size_bytes` is what is known of its size. Raises InvalidRequestError for a bad digest and for another content,
    BodyTooLargeError, TransferError if the disk is full or fails, and what `read` raises.
    """
    wanted = parse_digest(digest)
    if ctx.store.blobs.has(wanted):
        return False
    if digest != f"sha256:{wanted}":  # names a content, as Ollama's files do, but no computed digest is spelt so
        raise InvalidRequestError(f'digest mismatch, expected "{digest}": spell it "sha256:{wanted}"', param="digest")
    limit = ctx.settings.max_blob_bytes
    if size_bytes is not None and size_bytes > limit:
        raise BodyTooLargeError(limit)
    ctx.store.blobs.check_space(size_bytes or 0)
    ctx.store.blobs.receive(wanted, read, limit)
    return True
