"""Settings from flags, environment and TOML files; the only reader of the environment.

Order: flag > HUGGING_LLAMA_* > OLLAMA_* > TOML files > default, the default being what Hugging Face's own variables say
where they mean the same. Our own variables are read strictly, Ollama's as leniently as Ollama reads them: a bad value
is named in a warning and the next source is asked. Empty is not set.
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hugging_llama_config import paths
from hugging_llama_config.described import PREFIX, Setting
from hugging_llama_config.files import ConfigError, did_you_mean, read_files
from hugging_llama_config.host import HostUrl, address_variables, is_kubernetes_link, resolve_address
from hugging_llama_config.settings import DEFAULTS, SETTINGS, Settings

__all__ = ["ConfigError", "GivenFlag", "Loaded", "load", "load_settings"]

logger = logging.getLogger(__name__)

DEFAULT = "default"
_PATHS = ("home", "run_dir", "hub_cache")
# beside the settings: of the command line
_OTHER_VARIABLES = ("CONFIG", "API_KEY")
# what Kubernetes gives every container about a service that is called hugging-llama
_KUBERNETES = re.compile(r"SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?")


@dataclass(frozen=True, slots=True)
class GivenFlag:
    """A setting on the command line: `flag` as it was typed."""

    name: str
    flag: str
    text: str


@dataclass(slots=True)
class Loaded:
    """The settings, where each one is from, and what is wrong; what can't be used is left out.

    `listening_in_files` is the address for who asks no variable.
    """

    settings: Settings = field(default_factory=Settings)
    origins: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    errors: list[ConfigError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    listening_in_files: HostUrl = field(default_factory=HostUrl)
    _values: dict[str, Any] = field(default_factory=dict)

    def _take(self, name: str, text: str, origin: str) -> ConfigError | None:
        """Set a value of text, or say what is wrong with it."""
        try:
            self._values[name] = SETTINGS[name].parse(text)
        except ValueError as error:
            return ConfigError(f"{origin}: {error}")
        self.origins[name] = origin
        return None


def load_settings(given: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Build the Settings of this process. `given` holds values by field name; None means not given.

    Raises ConfigError.
    """
    loaded = load(environ, values={name: value for name, value in (given or {}).items() if value is not None})
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    if loaded.errors:
        raise loaded.errors[0]
    return loaded.settings


def load(
    environ: Mapping[str, str] | None = None,
    flags: Iterable[GivenFlag] = (),
    values: Mapping[str, Any] | None = None,
) -> Loaded:
    """Ask all sources. `values` are ready ones, by field name, which win over all others. Raises nothing."""
    environ = os.environ if environ is None else environ
    loaded = Loaded()
    in_files = read_files(environ)
    loaded._values |= in_files.values
    loaded.origins |= in_files.origins
    loaded.files = in_files.read
    loaded.errors += in_files.errors
    _take_ollama(loaded, environ)
    _take_own(loaded, environ)
    loaded.listening_in_files = HostUrl(
        host=in_files.values.get("host", DEFAULTS["host"]), port=in_files.values.get("port", DEFAULTS["port"])
    )
    _take_address(loaded, environ)
    _take_given(loaded, flags, values or {})
    _fill_paths(loaded, environ)
    loaded.settings = Settings(**loaded._values)
    loaded.warnings += [_unknown(name) for name in environ if _is_unknown(name)]
    return loaded


def _take_ollama(loaded: Loaded, environ: Mapping[str, str]) -> None:
    for name, setting in SETTINGS.items():
        for variable in setting.ollama if name not in ("host", "port") else ():
            text = environ.get(variable, "").strip().strip("\"'")
            if not text or (text == "0" and setting.ollama_zero_is_automatic):
                continue
            if error := loaded._take(name, text, variable):
                loaded.warnings.append(f"{error}; it is ignored")


def _take_own(loaded: Loaded, environ: Mapping[str, str]) -> None:
    for name, setting in SETTINGS.items():
        # an empty variable is one that is not set, as in a compose file that passes on what it was given
        text = environ.get(setting.variable, "").strip()
        if not text or (name == "port" and is_kubernetes_link(text)):
            continue
        if error := loaded._take(name, text, setting.variable):
            loaded.errors.append(error)


def _take_address(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Host and port are two settings to us and one variable to Ollama."""
    variable = SETTINGS["port"].variable
    if loaded.origins.get("port") != variable:
        environ = {**environ, variable: ""}  # what is wrong with it is told once
    address = resolve_address(environ, loaded.listening_in_files)
    loaded._values |= {"host": address.host or "0.0.0.0", "port": address.port}
    loaded.origins |= address_variables(environ)


def _take_given(loaded: Loaded, flags: Iterable[GivenFlag], values: Mapping[str, Any]) -> None:
    for given in flags:
        if error := loaded._take(given.name, given.text, given.flag):
            loaded.errors.append(error)
    for name, value in values.items():
        try:
            loaded._values[name] = _setting(name).parse_given(value)
        except ValueError as error:
            loaded.errors.append(ConfigError(f"{name}: {error}"))
            continue
        loaded.origins[name] = "the application"


def _setting(name: str) -> Setting:
    if name in SETTINGS:
        return SETTINGS[name]
    raise ValueError(f"no such setting{did_you_mean(name)}")


def _fill_paths(loaded: Loaded, environ: Mapping[str, str]) -> None:
    values = loaded._values
    values.setdefault("home", str(paths.default_home(environ)))
    values.setdefault("hub_cache", str(paths.default_hub_cache(environ)))
    endpoint = values.get("hub_endpoint") or environ.get("HF_ENDPOINT") or paths.DEFAULT_HUB_ENDPOINT
    values["hub_endpoint"] = endpoint.rstrip("/")
    _fill_token(values, environ)
    values["home"] = str(Path(values["home"]).expanduser())
    values.setdefault("run_dir", str(paths.default_run_dir(environ, values["home"])))
    for name in _PATHS:
        values[name] = str(Path(values[name]).expanduser())
    for name in ("keys_file", "hub_token_file"):
        if values.get(name):
            values[name] = str(Path(values[name]).expanduser())
    values["model_dirs"] = tuple(str(Path(path).expanduser()) for path in values.get("model_dirs", ()))
    for name, variable in paths.fallback_origins(environ).items():
        if values[name]:
            loaded.origins.setdefault(name, variable)
    for name in SETTINGS:
        loaded.origins.setdefault(name, DEFAULT)


def _fill_token(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """What is said of either of the two settings wins over Hugging Face's variables and the login."""
    path = "" if "hub_token" in values else str(paths.default_token_file(environ))
    token = "" if "hub_token_file" in values else paths.hub_token(environ)
    values.setdefault("hub_token", token)
    values.setdefault("hub_token_file", path)


def _is_unknown(variable: str) -> bool:
    name = variable.removeprefix(PREFIX)
    is_known = name.lower() in SETTINGS or name in _OTHER_VARIABLES or _KUBERNETES.fullmatch(name)
    return name != variable and not is_known


def _unknown(variable: str) -> str:
    return f"{variable} is no setting{did_you_mean(variable, lambda name: SETTINGS[name].variable)}"
