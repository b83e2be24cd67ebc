"""Brings the folder of our own state to today's format, once, before the first write.

<home>/format         a number, written when all is in that format
<home>/.format.lock   held by the process that converts

Each step can be interrupted: a file is old or new, and readers understand both until the number is there.
"""

import os
from typing import Any

import msgspec

from hugging_llama.errors import HuggingLlamaError
from hugging_llama.store import durable, file_lock
from hugging_llama_config.home_format import HOME_FORMAT, HomeFormatError, format_file, read_home_format

_MAX_MANIFEST_BYTES = 8 * 2**20
_SUFFIX = ".json"
_TIMEOUT_S = 60.0


def prepare(home: str) -> None:
    """Have the folder in today's format, made if it is not there; costs next to nothing once it is.

    Raises HuggingLlamaError for a folder of a later version, OSError, TimeoutError if another process takes too long.
    """
    try:
        if read_home_format(home) == HOME_FORMAT:
            return
        with file_lock.locked(os.path.join(home, ".format.lock"), _TIMEOUT_S, private=True):
            if read_home_format(home) < HOME_FORMAT:
                _convert(home)
    except HomeFormatError as error:
        raise HuggingLlamaError(str(error)) from None


def upgraded_manifest(values: Any) -> Any:
    """The values of a manifest of any format as one of today's has them."""
    if isinstance(values, dict) and values.get("version") == 1:
        kept = {name: value for name, value in values.items() if name != "from"}
        return kept | {"version": HOME_FORMAT, "source": {"from": values.get("from", "")}}
    return values


def _convert(home: str) -> None:
    models = os.path.join(home, "models")
    for name in sorted(os.listdir(models)) if os.path.isdir(models) else ():
        if name.endswith(_SUFFIX) and not name.startswith("."):
            _convert_manifest(os.path.join(models, name))
    durable.replace_file(format_file(home), f"{HOME_FORMAT}\n".encode())


def _convert_manifest(path: str) -> None:
    """Rewrite a file of an earlier format; it keeps its time. What is damaged stays as it is."""
    with open(path, "rb") as file:
        content = file.read(_MAX_MANIFEST_BYTES + 1)
        modified_ns = os.fstat(file.fileno()).st_mtime_ns
    try:
        values = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return
    if (upgraded := upgraded_manifest(values)) is not values:
        durable.replace_file(path, msgspec.json.format(msgspec.json.encode(upgraded)), modified_ns)
