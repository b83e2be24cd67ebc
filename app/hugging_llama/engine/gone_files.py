"""A model that is deleted while it loads: what fails then, at whatever file, says nothing about the model."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hugging_llama.errors import ModelLoadError

GONE = "the files of this model are gone; pull it again"


@contextlib.contextmanager
def deletion_told(directory: str) -> Iterator[None]:
    """In the block a model's files are read. Whatever fails there is a ModelLoadError that says so if its folder was
    deleted before or meanwhile."""
    folder, config = Path(directory), Path(directory, "config.json")
    before, had_config = _identity(folder), config.exists()
    try:
        yield
    except Exception as error:
        # another folder of this name is that of a pull since
        is_there = before is not None and _identity(folder) == before and (config.exists() or not had_config)
        if is_there:
            raise
        raise ModelLoadError(GONE) from error


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino
