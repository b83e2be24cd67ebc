"""The Hub over HTTP, as far as the catalog needs it: a repository's facts and the beginnings of its files.

All that comes is a stranger's: it is read up to a limit, and only numbers and checked words go on.
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import requests

from hugging_llama_cli.api import Json
from hugging_llama_cli.errors import CliError
from hugging_llama_config.model_size import StoredTensor

_TIMEOUTS_S = (10.0, 30.0)
_MAX_REDIRECTS = 5
_MAX_JSON_BYTES = 32 * 2**20
_MAX_HEADER_BYTES = 32 * 2**20
_MAX_TENSORS = 200_000
_MAX_DIMENSIONS = 16
_LENGTH_BYTES = 8
_CHUNK_BYTES = 2**16
_REASONS = {
    401: "needs a token: set HF_TOKEN, or log in with 'hf auth login'",
    403: "is gated: its page on the Hub asks for its licence to be accepted first",
    404: "is not on the Hub",
    429: "was not described: the Hub has had too many requests",
}


class HubError(CliError):
    """The Hub did not describe a model; the message follows the model's name."""


class HubUnreachableError(HubError):
    """Nobody answered."""


class HubReader:
    """Asks one Hub, once and without retries. The token goes to the Hub's own host alone."""

    def __init__(self, endpoint: str, token: str) -> None:
        self._endpoint = endpoint
        self._session = requests.Session()
        self._session.max_redirects = _MAX_REDIRECTS
        self._session.headers.update({"User-Agent": "hugging-llama", "Accept-Encoding": "identity"})
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def info(self, id: str) -> Json:
        """What the Hub says of a repository's default branch, its files with sizes among it. Raises HubError."""
        return self._json(f"/api/models/{quote(id)}/revision/main?blobs=true")

    def json_file(self, id: str, commit: str, path: str) -> Json:
        """A file that holds a JSON object. Raises HubError."""
        return self._json(f"/{quote(id)}/resolve/{commit}/{quote(path)}")

    def tensors(self, id: str, commit: str, path: str) -> list[StoredTensor]:
        """The tensors that a safetensors file lists at its beginning. Raises HubError."""
        headers = {"Range": f"bytes=0-{_LENGTH_BYTES + _MAX_HEADER_BYTES - 1}"}
        with self._get(f"/{quote(id)}/resolve/{commit}/{quote(path)}", headers) as response:
            pieces = _Pieces(response)
            length = int.from_bytes(pieces.take(_LENGTH_BYTES), "little")
            if not 0 < length <= _MAX_HEADER_BYTES:
                raise HubError("has weights that can't be read")
            return _tensors(_object(pieces.take(length)))

    def _json(self, path: str) -> Json:
        with self._get(path, {}) as response:
            return _object(_Pieces(response).all(_MAX_JSON_BYTES))

    def _get(self, path: str, headers: dict[str, str]) -> requests.Response:
        try:
            response = self._session.get(self._endpoint + path, headers=headers, stream=True, timeout=_TIMEOUTS_S)
        except (requests.ConnectionError, requests.Timeout):
            raise HubUnreachableError(f"was not described: the Hub at {self._endpoint} can't be reached") from None
        except requests.RequestException as error:
            raise HubError(f"was not described: {error}") from None
        if response.status_code not in (200, 206):
            response.close()
            reason = _REASONS.get(response.status_code, f"was not described: the Hub answered {response.status_code}")
            raise HubError(reason)
        return response


class _Pieces:
    """A body from its beginning, as far as it is wanted."""

    def __init__(self, response: requests.Response) -> None:
        self._pieces: Iterator[bytes] = response.iter_content(_CHUNK_BYTES)
        self._rest = b""

    def take(self, length: int) -> bytes:
        """The next `length` bytes. Raises HubError if there are fewer."""
        parts, missing = [self._rest], length - len(self._rest)
        while missing > 0:
            if not (piece := self._next()):
                raise HubError("has files that end too early")
            parts.append(piece)
            missing -= len(piece)
        data = b"".join(parts)
        self._rest = data[length:]
        return data[:length]

    def all(self, limit: int) -> bytes:
        """What is left. Raises HubError if that is more than `limit`."""
        parts, size = [], 0
        while piece := self._next():
            parts.append(piece)
            size += len(piece)
            if size > limit:
                raise HubError("was not described: the Hub's answer is too long")
        return b"".join(parts)

    def _next(self) -> bytes:
        try:
            return next(self._pieces, b"")
        except requests.RequestException:
            raise HubError("was not described: the Hub broke off its answer") from None


def _object(text: bytes) -> Json:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise HubError("was not described: the Hub's answer is no JSON object")
    return value


def _tensors(header: Json) -> list[StoredTensor]:
    if len(header) > _MAX_TENSORS:
        raise HubError("has too many tensors to look at")
    found = [_tensor(name, entry) for name, entry in header.items() if name != "__metadata__"]
    if not found:
        raise HubError("has weights that can't be read")
    return found


def _tensor(name: str, entry: Any) -> StoredTensor:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    dtype = entry.get("dtype") if isinstance(entry, dict) else None
    is_shape = isinstance(shape, list) and len(shape) <= _MAX_DIMENSIONS
    if not is_shape or not isinstance(dtype, str) or not all(type(n) is int and 0 <= n < 2**40 for n in shape or ()):
        raise HubError("has weights that can't be read")
    return StoredTensor(name, dtype, tuple(shape or ()))
