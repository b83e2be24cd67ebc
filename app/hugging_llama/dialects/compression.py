"""Compressed request bodies: gzip, and zstd as Codex sends it."""

import io
import zlib
from collections.abc import Callable, Mapping

import zstandard

from hugging_llama.errors import BodyTooLargeError, InvalidRequestError

MAX_DECOMPRESSED_BYTES = 20 * 2**20
"""Ollama's limit: a few kilobytes may say that they are gigabytes."""
_MAX_WINDOW_BYTES = 8 * 2**20
"""What a zstd frame may make its reader hold at once."""
_MAX_FRAMES = 10
"""So many are looked at once more: what is behind a frame is copied for it."""


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """What `body` says by its Content-Encoding, of at most `limit` bytes.

    Raises InvalidRequestError for what is damaged or of another encoding, BodyTooLargeError.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    read = _READERS.get(encoding)
    if read is None:
        raise InvalidRequestError(
            f"Content-Encoding {encoding[:40]!r} is not supported: send the body as it is, or with "
            f"{' or '.join(sorted(_READERS))}"
        )
    limit = min(limit, MAX_DECOMPRESSED_BYTES)
    try:
        found = read(body, limit + 1)
    except (EOFError, zlib.error, zstandard.ZstdError):
        raise InvalidRequestError(f"the request body is not valid {encoding}") from None
    if len(found) > limit:
        raise BodyTooLargeError(limit)
    return found


def _gzip(body: bytes, size: int) -> bytes:
    """Of one member alone: Python's own reader goes through the heads of a million of them, byte by byte, and no other
    request is served meanwhile."""
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    found = member.decompress(body, size)
    if (len(found) < size and not member.eof) or member.unused_data:
        raise EOFError
    return found


def _zstd(body: bytes, size: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    with decompressor.stream_reader(io.BytesIO(body), read_across_frames=True) as stream:
        found = stream.read(size)
    if len(found) < size and not _is_whole(body, decompressor):
        raise EOFError
    return found


def _is_whole(body: bytes, decompressor: zstandard.ZstdDecompressor) -> bool:
    """Whether the last frame has its end, of as many as are looked at; the reader takes one without for the end of all.
    `body` is known to hold little."""
    for _ in range(_MAX_FRAMES):
        frame = decompressor.decompressobj()
        frame.decompress(body)
        if not frame.eof:
            return False
        if not (body := frame.unused_data):
            return True
    return True


_READERS: Mapping[str, Callable[[bytes, int], bytes]] = {"gzip": _gzip, "x-gzip": _gzip, "zstd": _zstd}
