"""Settings from flags, environment and a TOML file; the only reader of the environment.

Order: flag > HUGGING_LLAMA_* > OLLAMA_* > TOML file > default. Our own variables are read strictly, Ollama's as
leniently as Ollama reads them: a bad value is named in a warning and the next source is asked. Empty is not set.
"""

import ipaddress
import logging
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hugging_llama_config import paths, units
from hugging_llama_config.host import HostUrl, resolve_address
from hugging_llama_config.keys import keys_path
from hugging_llama_config.log_levels import LEVELS, parse_levels
from hugging_llama_config.settings import DEFAULTS, Settings

logger = logging.getLogger(__name__)

PREFIX = "HUGGING_LLAMA_"
OLLAMA_VARIABLES: Mapping[str, str] = {
    "OLLAMA_KEEP_ALIVE": "keep_alive_s",
    "OLLAMA_MAX_LOADED_MODELS": "max_loaded_models",
    "OLLAMA_NUM_PARALLEL": "max_num_seqs",
    "OLLAMA_MAX_QUEUE": "max_queue",
    "OLLAMA_CONTEXT_LENGTH": "context_length",
    "OLLAMA_LOAD_TIMEOUT": "load_timeout_s",
    "OLLAMA_NOPRUNE": "noprune",
    "OLLAMA_ORIGINS": "origins",
}
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_CHOICES = {
    "duration_unit": ("ns", "seconds"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "dtype": ("auto", "bfloat16", "float16", "float32"),
    "quantize": ("none", "int8", "int4"),
    "log_level": LEVELS,
    "log_format": ("text", "json"),
}
# every other whole number may be from 0 to what 64 bits hold, every other duration from 0 to for ever
_LARGEST = 2**63 - 1
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "port": (0, 65535),
    "workers": (1, 512),
    "worker_connections": (1, 10**6),
    "graceful_timeout_s": (0, 86400),
    "num_threads": (0, 4096),
    "max_num_seqs": (1, 4096),
    "max_step_s": (0.001, 60),
    "first_event_timeout_s": (0.001, math.inf),
    "idle_event_timeout_s": (0.001, math.inf),
    "max_body_bytes": (1, _LARGEST),
    "max_blob_bytes": (1, _LARGEST),
    "body_timeout_s": (0.001, math.inf),
    "stored_responses_bytes": (2**20, _LARGEST),
    "stored_responses_s": (1, math.inf),
}
_ORIGIN_SCHEMES = (
    "http://", "https://", "chrome-extension://", "safari-extension://", "moz-extension://", "ms-browser-extension://",
)  # fmt: skip
_PATHS = ("home", "run_dir", "hub_cache")


class ConfigError(Exception):
    """A setting can't be used. The message is one line that names the variable or key."""


def load_settings(flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Build the Settings of this process. `flags` hold values by field name; None means not given.

    Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    for name, value in given.items():
        _check(name, value, name)
    values = _from_file(environ) | _from_ollama(environ) | _from_own(environ)
    in_file = HostUrl(host=values.get("host", DEFAULTS["host"]), port=values.get("port", DEFAULTS["port"]))
    address = resolve_address(environ, in_file)
    values |= {"host": address.host or "0.0.0.0", "port": address.port}
    values |= given
    _fill_paths(values, environ)
    return Settings(**values)


def _fill_paths(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    values.setdefault("home", str(paths.default_home(environ)))
    values.setdefault("hub_cache", str(paths.default_hub_cache(environ)))
    endpoint = values.get("hub_endpoint") or environ.get("HF_ENDPOINT") or paths.DEFAULT_HUB_ENDPOINT
    values["hub_endpoint"] = endpoint.rstrip("/")
    values.setdefault("hub_token", paths.hub_token(environ))
    values["home"] = str(Path(values["home"]).expanduser())
    values.setdefault("run_dir", str(paths.default_run_dir(environ, values["home"])))
    for name in _PATHS:
        values[name] = str(Path(values[name]).expanduser())
    values["keys_file"] = str(Path(keys_path(values["home"], values.get("keys_file", ""))).expanduser())
    values["model_dirs"] = tuple(str(Path(path).expanduser()) for path in values.get("model_dirs", ()))


def _from_file(environ: Mapping[str, str]) -> dict[str, Any]:
    named = environ.get(PREFIX + "CONFIG")
    home = environ.get(PREFIX + "HOME", "").strip() or paths.default_home(environ)
    path = (Path(named) if named else Path(home) / "config.toml").expanduser()
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
        if text := _as_text(key, value, f"{path}: {key}"):
            values[key] = _read(key, text, f"{path}: {key}")
    return values


def _as_text(key: str, value: Any, source: str) -> str:
    if isinstance(value, list) and isinstance(DEFAULTS[key], tuple):
        return (os.pathsep if key == "model_dirs" else ",").join(map(str, value))
    if isinstance(value, list | dict):
        raise ConfigError(f"{source}: must be a single value")
    return str(value)


def _from_own(environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for name in DEFAULTS:
        variable = PREFIX + name.upper()
        # an empty variable is one that is not set, as in a compose file that passes on what it was given
        if text := environ.get(variable, "").strip():
            values[name] = _read(name, text, variable)
    return values


def _from_ollama(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, name in OLLAMA_VARIABLES.items():
        text = environ.get(variable, "").strip().strip("\"'")
        # 0 is Ollama's "automatic", except for a duration
        if not text or (text == "0" and isinstance(DEFAULTS[name], int)):
            continue
        try:
            values[name] = _read(name, text, variable)
        except ConfigError as error:
            logger.warning("%s; it is ignored", error)
    return values


def _read(name: str, text: str, source: str) -> Any:
    """The value of a field. Raises ConfigError, whose line begins with `source`."""
    try:
        value = _reader(name)(text.strip())
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None
    _check(name, value, source)
    return value


def _check(name: str, value: Any, source: str) -> None:
    if name in _CHOICES and value not in _CHOICES[name]:
        raise ConfigError(f"{source}: {value!r} is none of {', '.join(_CHOICES[name])}")
    if isinstance(value, int | float):
        low, high = _BOUNDS.get(name, (0, _LARGEST if isinstance(DEFAULTS[name], int) else math.inf))
        if not low <= value <= high:
            allowed = f"from {low} to {high}" if high < _LARGEST else f"at least {low}"
            raise ConfigError(f"{source}: must be {allowed}, not {value}")


def _reader(name: str) -> Callable[[str], Any]:
    if name.endswith("_bytes"):
        return units.parse_size
    return _READERS_BY_NAME.get(name) or _READERS_BY_TYPE[type(DEFAULTS[name])]


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
        return units.parse_duration(text)
    if math.isnan(value):
        raise ValueError(f"{text!r} is not a duration")
    return units.bounded(value)


def _read_load_timeout(text: str) -> float:
    """0 is no limit, as it is to Ollama."""
    return _read_seconds(text) or units.FOREVER_S


def _read_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_paths(text: str) -> tuple[str, ...]:
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


def _read_levels(text: str) -> tuple[str, ...]:
    return tuple(f"{part}={level}" for part, level in parse_levels(_read_list(text)).items())


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


_READERS_BY_NAME: Mapping[str, Callable[[str], Any]] = {
    "audit_log": _read_file,
    "host": _read_host,
    "load_timeout_s": _read_load_timeout,
    "log_levels": _read_levels,
    "model_dirs": _read_paths,
    "origins": _read_origins,
    "trusted_proxies": _read_networks,
}
_READERS_BY_TYPE: Mapping[type, Callable[[str], Any]] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_seconds,
    tuple: _read_list,
    str: str,
}
