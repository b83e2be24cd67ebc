"""Folders that are made while others take empty ones away: removals of the same repository, here or elsewhere."""

import os

_TRIES = 10


def make_folders(path: str) -> None:
    """Make the folder and those above it, where they are not there. Raises OSError."""
    for _ in range(_TRIES - 1):
        try:
            os.makedirs(path, exist_ok=True)
        except FileNotFoundError:  # one above it went before it was made
            continue
        except FileExistsError:  # it was there to `mkdir`, and no longer to who looked whether it is a folder
            if os.path.lexists(path) and not os.path.isdir(path):
                raise
            continue
        return
    os.makedirs(path, exist_ok=True)
