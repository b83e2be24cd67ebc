"""The format of the folder that holds our own state: a number in `<home>/format`."""

import os

HOME_FORMAT = 2
"""1: named models from a repository of the Hub. 2: also files, adapters and texts; `blobs` and `folders`."""
_FILE = "format"


class HomeFormatError(Exception):
    """A folder that this version must not touch; the message says why, for operators."""


def format_file(home: str) -> str:
    """The file with the number."""
    return os.path.join(home, _FILE)


def read_home_format(home: str) -> int:
    """The format of a folder that may not exist; 1 where nothing is said. Raises HomeFormatError for a later one."""
    if not home:
        return HOME_FORMAT
    try:
        with open(format_file(home), "rb") as file:
            text = file.read(20).decode("ascii", "replace").strip()
    except OSError:  # there is none, or none that can be written either
        return 1
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= HOME_FORMAT):
        said = text if text.isascii() and text.isdigit() else "unknown"
        raise HomeFormatError(
            f"the folder of named models has format {said}, and this version knows {HOME_FORMAT} at most: "
            "install the newer version that made it, or set HUGGING_LLAMA_HOME to another folder"
        )
    return int(text)
