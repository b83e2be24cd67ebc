"""Reads a model's small files, whole. Raises ModelLoadError with a sentence for the user, which never names a path."""

import os
from pathlib import Path
from typing import Any

from hugging_llama.errors import ModelLoadError
from hugging_llama_config.regular_file import open_regular
from hugging_llama_config.small_files import (
    MOST_JSON_BYTES,
    MOST_TOKENIZER_BYTES,
    FolderSizes,
    TooManyValuesError,
    is_json,
    parse_json,
    values_problem,
)


def check_folder(folder: Path) -> None:
    """All files there that a library may read whole, before one does. Raises ModelLoadError."""
    sizes = FolderSizes()
    for path in sorted(folder.glob("*")):
        if not path.is_file():
            continue
        try:
            problem = sizes.problem(path.name, path.stat().st_size)
            if not problem and is_json(path.name):
                problem = values_problem(path.name, read_content(path, MOST_TOKENIZER_BYTES))
        except OSError:
            raise ModelLoadError(f"the model's {path.name} can't be read") from None
        if problem:
            raise ModelLoadError(f"the model's {path.name} {problem}")


def read_content(path: Path, max_bytes: int) -> bytes:
    """Raises ModelLoadError for more than `max_bytes`, OSError."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise ModelLoadError(f"the model's {path.name} is too large")
        return file.read()


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
