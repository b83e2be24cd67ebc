"""Reads a model's small files, whole. Raises ModelLoadError with a sentence for the user, which never names a path."""

import json
import os
from pathlib import Path
from typing import Any

from hugging_llama.errors import ModelLoadError
from hugging_llama_config.regular_file import open_regular

_MAX_JSON_BYTES = 64 * 2**20


def read_content(path: Path, max_bytes: int) -> bytes:
    """Raises ModelLoadError for more than `max_bytes`, OSError."""
    with open_regular(path) as file:
        _check_size(path, os.fstat(file.fileno()), max_bytes)
        return file.read()


def check_size(path: Path, max_bytes: int) -> None:
    """Raises ModelLoadError for more than `max_bytes`, OSError."""
    _check_size(path, path.stat(), max_bytes)


def _check_size(path: Path, status: os.stat_result, max_bytes: int) -> None:
    if status.st_size > max_bytes:
        raise ModelLoadError(f"the model's {path.name} is too large")


def read_any_json(path: Path) -> Any:
    """Raises ModelLoadError if the file is missing, too large or no JSON."""
    try:
        return json.loads(read_content(path, _MAX_JSON_BYTES))
    except OSError:
        raise ModelLoadError(f"the model has no {path.name}") from None
    except (ValueError, RecursionError):
        raise ModelLoadError(f"the model's {path.name} is damaged") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file. Raises ModelLoadError if it is missing, too large or anything else."""
    value = read_any_json(path)
    if not isinstance(value, dict):
        raise ModelLoadError(f"the model's {path.name} is damaged")
    return value
