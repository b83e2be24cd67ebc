"""Frames on a byte stream: a length as unsigned 32-bit little-endian, then that many bytes."""

from collections.abc import Iterator

from hugging_llama.errors import ProtocolError

MAX_FRAME_BYTES = 256 * 2**20
"""Above any body that the web side accepts and any batch of vectors; a length beyond it is garbage."""
_HEADER = 4


def frame(payload: bytes) -> bytes:
    """`payload` with its length in front. Raises ProtocolError above MAX_FRAME_BYTES."""
    if len(payload) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {len(payload)} bytes is longer than {MAX_FRAME_BYTES}")
    return len(payload).to_bytes(_HEADER, "little") + payload


class FrameReader:
    """Cuts received bytes into frames. Not thread-safe: one reader owns it."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that `data` completes. Raises ProtocolError on an impossible length."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= _HEADER:
                length = int.from_bytes(self._buffer[start : start + _HEADER], "little")
                if length > self._max_bytes:
                    raise ProtocolError(f"a frame announces {length} bytes, at most {self._max_bytes} are allowed")
                end = start + _HEADER + length
                if len(self._buffer) < end:
                    return
                yield bytes(self._buffer[start + _HEADER : end])
                start = end
        finally:
            # cut once per feed: cutting after each frame would copy the rest again and again
            del self._buffer[:start]
