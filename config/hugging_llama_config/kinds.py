"""What a setting's value may be: how it is read from text, which types a TOML file may use, and how it is shown."""

import ipaddress
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hugging_llama_config import units
from hugging_llama_config.log_levels import parse_levels

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_ORIGIN_SCHEMES = (
    "http://", "https://", "chrome-extension://", "safari-extension://", "moz-extension://", "ms-browser-extension://",
)  # fmt: skip
_USER_INFO = re.compile(r"(?<=//)[^/@]*@")
_SIZES = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`words` say what is allowed, `read` makes a value of text and raises ValueError, `toml` are the types of a file.

    A list's texts are joined by `separator`. `metavar` stands for a value in `--help`.
    """

    words: str
    metavar: str
    read: Callable[[str], Any]
    toml: tuple[type, ...] = (str,)
    separator: str = ""
    show: Callable[[Any], str] = str


def _read_bool(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError(f"{text!r} is neither true nor false")


def _read_int(text: str) -> int:
    if not re.fullmatch(r"[-+]?[0-9]{1,30}", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _read_seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = _read_duration(text)
    if math.isnan(value):
        raise ValueError(f"{text!r} is not a duration")
    return units.bounded(value)


def _read_duration(text: str) -> float:
    try:
        return units.parse_duration(text)
    except ValueError:
        raise ValueError(f"{text[:64]!r} is not a duration; write seconds, or for example 5m or 1h30m") from None


def _read_limit(text: str) -> float:
    """0 is no limit, as it is to Ollama."""
    return _read_seconds(text) or units.FOREVER_S


def _read_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_levels(text: str) -> tuple[str, ...]:
    return tuple(f"{part}={level}" for part, level in parse_levels(_read_list(text)).items())


def _read_folders(text: str) -> tuple[str, ...]:
    paths = tuple(part.strip() for part in text.split(os.pathsep) if part.strip())
    for path in paths:
        if not path.startswith(("/", "~")):
            raise ValueError(f"{path!r} is not an absolute path")
    return paths


def _read_file(text: str) -> str:
    """An absolute path: what is relative would depend on where each process was started."""
    if not text.startswith(("/", "~")):
        raise ValueError(f"{text!r} is not an absolute path")
    path = Path(text).expanduser()
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}")
    return str(path)


def _read_networks(text: str) -> tuple[str, ...]:
    """Addresses and networks; `*` is everybody."""
    networks = _read_list(text)
    for network in networks:
        if network != "*":
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"{network!r} is not an address or a network: {error}") from None
    return networks


def _read_host(text: str) -> str:
    """A port in it would be taken for part of an IPv6 address."""
    text = text.removeprefix("[").removesuffix("]")
    if ":" in text:
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            raise ValueError(f"{text!r} is not an address or a name; the port is a setting of its own") from None
    return text


def _read_origins(text: str) -> tuple[str, ...]:
    origins = _read_list(text)
    for origin in origins:
        if origin.count("*") > 1:
            raise ValueError(f"{origin!r} has more than one *")
        if "*" not in origin and not origin.startswith(_ORIGIN_SCHEMES):
            raise ValueError(f"{origin!r} must have a *, or begin with {', '.join(_ORIGIN_SCHEMES)}")
    return origins


def _show_bool(value: bool) -> str:
    return "true" if value else "false"


def _show_size(value: int) -> str:
    """In binary units where that is exact."""
    return next((f"{value // size}{unit}" for unit, size in _SIZES if value and value % size == 0), str(value))


def _show_seconds(value: float) -> str:
    return "forever" if math.isinf(value) else f"{value:.15g}"


def _show_list(value: tuple[str, ...]) -> str:
    return ", ".join(value)


def _show_url(value: str) -> str:
    """Without the password that it may hold."""
    return _USER_INFO.sub("***@", value)


BOOL = Kind(words="true or false", metavar="true|false", read=_read_bool, toml=(bool,), show=_show_bool)
NUMBER = Kind(words="a whole number", metavar="N", read=_read_int, toml=(int,))
SIZE = Kind(words="a size", metavar="SIZE", read=units.parse_size, toml=(int, str), show=_show_size)
SECONDS = Kind(words="a duration", metavar="SECONDS", read=_read_seconds, toml=(int, float, str), show=_show_seconds)
LIMIT = Kind(words="a duration", metavar="SECONDS", read=_read_limit, toml=(int, float, str), show=_show_seconds)
TEXT = Kind(words="a text", metavar="TEXT", read=str)
URL = Kind(words="a URL", metavar="URL", read=str, show=_show_url)
HOST = Kind(words="an address or a name", metavar="ADDRESS", read=_read_host)
FOLDER = Kind(words="a folder", metavar="FOLDER", read=str)
FILE = Kind(words="a file", metavar="FILE", read=str)
FILE_TO_WRITE = Kind(words="a file in a folder that exists", metavar="FILE", read=_read_file)
NAMES = Kind(words="names", metavar="NAME", read=_read_list, toml=(list, str), separator=",", show=_show_list)
LOG_LEVELS = Kind(
    words="parts with levels", metavar="PART=LEVEL", read=_read_levels, toml=(list, str), separator=",", show=_show_list
)
ORIGINS = Kind(words="origins", metavar="ORIGIN", read=_read_origins, toml=(list, str), separator=",", show=_show_list)
NETWORKS = Kind(
    words="addresses and networks",
    metavar="NETWORK",
    read=_read_networks,
    toml=(list, str),
    separator=",",
    show=_show_list,
)
FOLDERS = Kind(
    words="absolute paths",
    metavar="FOLDER",
    read=_read_folders,
    toml=(list, str),
    separator=os.pathsep,
    show=_show_list,
)
