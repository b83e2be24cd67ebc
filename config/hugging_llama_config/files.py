"""The TOML files: where they may lie, and what they say."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hugging_llama_config import paths
from hugging_llama_config.described import PREFIX
from hugging_llama_config.settings import SETTINGS

SYSTEM_FILE = Path("/etc/hugging-llama/config.toml")
_NAME = "config.toml"


class ConfigError(Exception):
    """A setting can't be used. The message is one line that names the flag, the variable, or file and key."""


@dataclass(slots=True)
class FileValues:
    """What files say: values and where each is from. `places` are where files were looked for, in this order, and
    `read` are those that were there; the last one wins."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    places: list[Path] = field(default_factory=list)
    read: list[Path] = field(default_factory=list)
    errors: list[ConfigError] = field(default_factory=list)

    def add(self, path: Path, named_by: str = "") -> None:
        """Lay the file over what others have said. One that is not there says nothing, unless somebody has named it."""
        self.places.append(path)
        try:
            table = tomllib.loads(path.read_bytes().decode())
        except FileNotFoundError:
            if named_by:
                self.errors.append(ConfigError(f"{named_by}: there is no file {path}"))
            return
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self.errors.append(ConfigError(f"{path} can't be read: {why}"))
            return
        except tomllib.TOMLDecodeError as error:
            self.errors.append(ConfigError(f"{path}: {error}"))
            return
        self.read.append(path)
        for key, value in table.items():
            try:
                self._set(key, value, str(path))
            except ValueError as error:
                self.errors.append(ConfigError(f"{path}: {error}"))

    def _set(self, key: str, value: Any, origin: str) -> None:
        if key not in SETTINGS:
            raise ValueError(f"unknown setting {key!r}{did_you_mean(key)}")
        if value in ("", []):  # as if nobody had said anything
            self.values.pop(key, None)
            self.origins.pop(key, None)
            return
        try:
            self.values[key] = SETTINGS[key].parse_toml(value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        self.origins[key] = origin


def did_you_mean(name: str, spelled: Callable[[str], str] = repr) -> str:
    """The end of a message about a key or variable that is no setting: which one it was probably meant to be, as
    `spelled` writes its name; "" if none looks alike."""
    # hardly any start needs it, and all commands of the CLI import this module
    import difflib

    wanted = name.lower().removeprefix(PREFIX.lower()).replace("-", "_")
    near = difflib.get_close_matches(wanted, SETTINGS, n=1)
    return f"; did you mean {spelled(near[0])}?" if near else ""


def user_file(environ: Mapping[str, str]) -> Path:
    """`~/.config/hugging-llama/config.toml`, below XDG_CONFIG_HOME if that is set."""
    config = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".config")
    return Path(config) / "hugging-llama" / _NAME


def named_file(environ: Mapping[str, str]) -> Path | None:
    """The one file that HUGGING_LLAMA_CONFIG names; then no other is read."""
    named = environ.get(PREFIX + "CONFIG", "").strip()
    return Path(named).expanduser() if named else None


def home_file(environ: Mapping[str, str], home: str | None) -> Path:
    """The file in the home; `home` is what the other files say."""
    said = environ.get(PREFIX + "HOME", "").strip() or home or paths.default_home(environ)
    return Path(said).expanduser() / _NAME


def read_files(environ: Mapping[str, str]) -> FileValues:
    """The named file; else the machine's, the user's and the home's, each over the ones before it."""
    found = FileValues()
    if (named := named_file(environ)) is not None:
        found.add(named, PREFIX + "CONFIG")
        return found
    for path in (SYSTEM_FILE, user_file(environ)):
        found.add(path)
    found.add(home_file(environ, found.values.get("home")))
    return found


def check_file(path: Path) -> list[ConfigError]:
    """All that is wrong with one file."""
    found = FileValues()
    found.add(path, "FILE")
    return found.errors
