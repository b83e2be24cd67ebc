"""Reads a model's small files, whole. Raises ModelLoadError with a sentence for the user, which never names a path."""

import os
from pathlib import Path
from typing import Any

from hugging_llama.errors import ModelLoadError
from hugging_llama_config.regular_file import open_regular
from hugging_llama_config.small_files import (
    MOST_JSON_BYTES,
    MOST_TEMPLATE_BYTES,
    MOST_TOKENIZER_BYTES,
    TooManyValuesError,
    is_json,
    is_template,
    parse_json,
    size_problem,
    values_problem,
)


def check_folder(folder: Path) -> None:
    """All files there that a library may read whole, before one does. Raises ModelLoadError."""
    template_bytes = 0
    for path in sorted(folder.glob("*")):
        if not path.is_file():
            continue
        try:
            num_bytes = path.stat().st_size
            template_bytes += num_bytes if is_template(path.name) else 0
            problem = size_problem(path.name, num_bytes)
            if template_bytes > MOST_TEMPLATE_BYTES:
                problem = "is too large"
            if not problem and is_json(path.name):
                problem = values_problem(path.name, read_content(path, MOST_TOKENIZER_BYTES))
        except OSError:
            raise ModelLoadError(f"the model's {path.name} can't be read") from None
        if problem:
            raise ModelLoadError(f"the model's {path.name} {problem}")


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
    """Raises ModelLoadError if the file is missing, too large or no JSON, or holds too much."""
    try:
        return parse_json(path.name, read_content(path, MOST_JSON_BYTES))
    except OSError:
        raise ModelLoadError(f"the model has no {path.name}") from None
    except TooManyValuesError as error:
        raise ModelLoadError(f"the model's {path.name} {error}") from None
    except (ValueError, RecursionError):
        raise ModelLoadError(f"the model's {path.name} is damaged") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file. Raises ModelLoadError if it is missing, too large or anything else."""
    value = read_any_json(path)
    if not isinstance(value, dict):
        raise ModelLoadError(f"the model's {path.name} is damaged")
    return value
