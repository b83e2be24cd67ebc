"""Pictures that a message names by their paths, for models that can see."""

import base64
import re
from pathlib import Path
from typing import TextIO

from hugging_llama_cli.errors import CliError
from hugging_llama_config.units import format_bytes

_MAX_BYTES = 100 * 10**6
# a path in quotes, or one whose spaces are escaped as terminals do when a file is dropped on them
_PATH = re.compile(
    r"""(['"])(?P<quoted>.+?\.(?:jpe?g|png|webp))\1|(?P<bare>(?:\\.|[^\s\\'"])+\.(?:jpe?g|png|webp))\b""", re.I
)


def with_pictures(text: str, stream: TextIO) -> tuple[str, list[str]]:
    """The text without the paths of files that are there, and these in base64. Raises CliError for one too large."""
    pictures: list[str] = []

    def attached(found: re.Match[str]) -> str:
        name = _name(found)
        path = Path(name).expanduser()
        if not path.is_file():
            return found[0]
        try:
            size = path.stat().st_size
            if size > _MAX_BYTES:
                raise CliError(f"'{name}' has {format_bytes(size)}; a picture may have {format_bytes(_MAX_BYTES)}")
            pictures.append(base64.b64encode(path.read_bytes()).decode())
        except OSError as error:
            raise CliError(f"'{name}' can't be read: {error.strerror}") from None
        print(f"Added image '{name}'", file=stream)
        return ""

    return _PATH.sub(attached, text).strip(), pictures


def names_picture(text: str) -> bool:
    """Whether `text` begins with the path of a picture that is there: it looks like a command then."""
    found = _PATH.match(text)
    return found is not None and Path(_name(found)).expanduser().is_file()


def _name(found: re.Match[str]) -> str:
    return found["quoted"] or re.sub(r"\\(.)", r"\1", found["bare"])
