"""What decides the memory of a model that lies on the Hub alone: its config.json and the headers of its weight files.

Of a weight file no more than the beginning is fetched, and nothing is kept.
"""

import contextlib
from typing import Any

import requests

from hugging_llama.errors import TransferError
from hugging_llama.store import names, safetensors_header, selection
from hugging_llama.store.capabilities import is_generative
from hugging_llama.store.details import named_dtype
from hugging_llama.store.hub import Hub, RemoteFile
from hugging_llama.store.hub_http import HubAccess, read_chunk, read_json_bytes
from hugging_llama.store.names import ModelName
from hugging_llama.store.retry import RetryPolicy, TransientError
from hugging_llama_config.model_memory import ModelSize
from hugging_llama_config.model_size import StoredTensor, model_size
from hugging_llama_config.settings import Settings
from hugging_llama_config.small_files import parse_json

_POLICY = RetryPolicy(connect_timeout_s=5.0, read_timeout_s=15.0)
_MAX_WEIGHT_FILES = 200


def remote_size(settings: Settings, name: str) -> tuple[ModelSize, str]:
    """As `Store.stored_size`, for a model of the Hub; asked once, without retries.

    Raises InvalidRequestError for bad syntax or an unknown revision, ModelNotFoundError, GatedModelError,
    KeyRejectedError, and TransferError for all that network and Hub can do.
    """
    wanted = names.parse_name(name)
    access = HubAccess(endpoint=settings.hub_endpoint.rstrip("/"), token=settings.find_hub_token())
    try:
        with contextlib.closing(Hub(access, _POLICY)) as hub:
            return _Remote(hub, wanted).size()
    except TransientError as error:
        raise TransferError(error.cause, repo=wanted.repo, cause=error.cause) from error
    except selection.NotServableError as error:
        raise TransferError(f"{wanted.repo} can't be served: {error}", repo=wanted.repo, cause=str(error)) from error
    except safetensors_header.BadSafetensorsError as error:
        text = f"the weights of {wanted.repo} can't be read"
        raise TransferError(text, repo=wanted.repo, cause=str(error)) from error


class _Remote:
    """One commit of a repository."""

    def __init__(self, hub: Hub, wanted: ModelName) -> None:
        commit = hub.commit(wanted)
        self._hub = hub
        self._name = ModelName(commit.repo, wanted.revision)
        self._commit = commit.commit
        self._files = {file.path: file for file in hub.files(self._name, self._commit)}

    def size(self) -> tuple[ModelSize, str]:
        weights = selection.weight_files(self._files, self._small)
        if len(weights) > _MAX_WEIGHT_FILES:
            raise selection.NotServableError("it has too many weight files to look at")
        config = self._config()
        is_embedding = selection.MODULES in self._files or not is_generative(config)
        tensors: list[StoredTensor] = []
        for path in weights:
            tensors += self._tensors(self._files[path])
            safetensors_header.check_number(len(tensors))  # a stranger's list must not fill the memory
        return model_size(config, tensors, is_embedding=is_embedding), named_dtype(config)

    def _config(self) -> dict[str, Any]:
        selection.check_configuration(self._files)
        try:
            text = self._small(selection.CONFIG) if selection.CONFIG in self._files else b"{}"
            config = parse_json(selection.CONFIG, text)
        except (ValueError, RecursionError):
            config = None
        if not isinstance(config, dict):
            raise selection.NotServableError(f"its {selection.CONFIG} can't be read")
        return config

    def _small(self, path: str) -> bytes:
        return read_json_bytes(self._open(path))

    def _tensors(self, file: RemoteFile) -> list[StoredTensor]:
        with self._open(file.path) as response:
            return safetensors_header.parse_tensors(_Body(response).read, file.size_bytes)

    def _open(self, path: str) -> requests.Response:
        return self._hub.open_file(self._name, self._commit, path, 0)


class _Body:
    """Reads the beginning of a reply; what has come beyond that is thrown away with the connection."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self._buffer = b""

    def read(self, length: int) -> bytes:
        """The next `length` bytes, fewer at the end. Raises TransientError."""
        parts, missing = [self._buffer], length - len(self._buffer)
        while missing > 0 and (chunk := read_chunk(self._response)):
            parts.append(chunk)
            missing -= len(chunk)
        data = b"".join(parts)
        self._buffer = data[length:]
        return data[:length]
