"""Settings from flags, environment and a TOML file; the only reader of the environment.

Order: flag > HUGGING_LLAMA_* > OLLAMA_* > TOML file > default. Our own variables are read strictly, Ollama's as
leniently as Ollama reads them: a bad value is named in a warning and the next source is asked.
"""

import logging
import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hugging_llama_config import paths, units
from hugging_llama_config.host import parse_host
from hugging_llama_config.settings import DEFAULTS, Settings

logger = logging.getLogger(__name__)

PREFIX = "HUGGING_LLAMA_"
DEFAULT_HUB_ENDPOINT = "https://huggingface.co"
OLLAMA_VARIABLES: Mapping[str, str] = {
    "OLLAMA_KEEP_ALIVE": "keep_alive_s",
    "OLLAMA_MAX_LOADED_MODELS": "max_loaded_models",
    "OLLAMA_NUM_PARALLEL": "max_num_seqs",
    "OLLAMA_MAX_QUEUE": "max_queue",
    "OLLAMA_CONTEXT_LENGTH": "context_length",
    "OLLAMA_LOAD_TIMEOUT": "load_timeout_s",
}
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}
_CHOICES = {
    "duration_unit": ("ns", "seconds"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "dtype": ("auto", "bfloat16", "float16", "float32"),
    "log_level": ("debug", "info", "warning", "error"),
}
_BOUNDS = {"port": (0, 65535), "workers": (1, 512), "max_num_seqs": (1, 4096)}


class ConfigError(Exception):
    """A setting can't be used. The message is one line that names the variable or key."""


def load_settings(flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Build the Settings of this process. `flags` hold values by field name; None means not given.

    Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    values |= _from_file(environ)
    values |= _from_ollama(environ)
    values |= _from_own(environ)
    values |= {name: value for name, value in (flags or {}).items() if value is not None}
    _fill_paths(values, environ)
    for name, (low, high) in _BOUNDS.items():
        if not low <= values.get(name, low) <= high:
            raise ConfigError(f"{name} must be from {low} to {high}, not {values[name]}")
    return Settings(**values)


def _fill_paths(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    values["home"] = str(Path(values.get("home") or paths.default_home(environ)).expanduser())
    values.setdefault("hub_cache", str(paths.default_hub_cache(environ)))
    values.setdefault("hub_endpoint", environ.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT_HUB_ENDPOINT)
    values.setdefault("hub_token", paths.hub_token(environ))
    values.setdefault("run_dir", str(paths.default_run_dir(environ, values["home"])))


def _from_file(environ: Mapping[str, str]) -> dict[str, Any]:
    named = environ.get(PREFIX + "CONFIG")
    path = Path(named) if named else paths.default_home(environ) / "config.toml"
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        if named:
            raise ConfigError(f"{PREFIX}CONFIG: there is no file {path}") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    values = {}
    for key, value in table.items():
        if key not in DEFAULTS:
            raise ConfigError(f"{path}: unknown setting {key!r}")
        values[key] = _read(key, _as_text(value), f"{path}: {key}")
    return values


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _from_own(environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for f in fields(Settings):
        variable = PREFIX + f.name.upper()
        if variable in environ:
            values[f.name] = _read(f.name, environ[variable], variable)
    # the name that people know from the document: a duration without the unit in its name
    if (text := environ.get(PREFIX + "KEEP_ALIVE")) and "keep_alive_s" not in values:
        values["keep_alive_s"] = _read("keep_alive_s", text, PREFIX + "KEEP_ALIVE")
    return values


def _read(name: str, text: str, source: str) -> Any:
    try:
        value = _READERS[type(DEFAULTS[name])](text.strip())
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None
    if name in _CHOICES and value not in _CHOICES[name]:
        raise ConfigError(f"{source}: {value!r} is none of {', '.join(_CHOICES[name])}")
    return value


def _read_bool(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError(f"{text!r} is neither true nor false")


def _read_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return units.parse_size(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _read_seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return units.parse_duration(text)
    if math.isnan(value):
        raise ValueError(f"{text!r} is not a duration")
    return value if value >= 0 else units.FOREVER_S


def _read_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_READERS: Mapping[type, Callable[[str], Any]] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_seconds,
    tuple: _read_list,
    str: str,
}


def _from_ollama(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, name in OLLAMA_VARIABLES.items():
        text = environ.get(variable, "").strip().strip("\"'")
        if not text:
            continue
        try:
            value = _READERS[type(DEFAULTS[name])](text)
            if isinstance(value, int) and value < 0:
                raise ValueError("negative")
        except ValueError:
            logger.warning("%s=%r can't be read and is ignored", variable, text)
            continue
        if value != 0 or isinstance(value, float):  # 0 is Ollama's "automatic"
            values[name] = value
    if host_text := environ.get("OLLAMA_HOST", "").strip().strip("\"'"):
        host = parse_host(host_text)
        values |= {"host": host.host or "0.0.0.0", "port": host.port}
    port_text = environ.get("OLLAMA_LOCAL_PORT", "").strip()
    if port_text:
        if port_text.isdecimal() and 0 < int(port_text) <= 65535:
            values["port"] = int(port_text)
        else:
            logger.warning("OLLAMA_LOCAL_PORT=%r can't be read and is ignored", port_text)
    return values
