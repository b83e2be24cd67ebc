"""Where things lie when nobody says otherwise."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

DEFAULT_HUB_ENDPOINT = "https://huggingface.co"
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def default_home(environ: Mapping[str, str]) -> Path:
    """Our own state: `~/.cache/hugging-llama`, below XDG_CACHE_HOME if that is set."""
    cache = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".cache")
    return Path(cache) / "hugging-llama"


def default_hub_cache(environ: Mapping[str, str]) -> Path:
    """The Hub cache that every Hugging Face tool of this user shares, found as huggingface_hub finds it."""
    if cache := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache).expanduser()
    return hf_home(environ) / "hub"


def hf_home(environ: Mapping[str, str]) -> Path:
    """Hugging Face's own folder: HF_HOME, else `~/.cache/huggingface`."""
    if home := environ.get("HF_HOME"):
        return Path(home).expanduser()
    cache = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".cache")
    return Path(cache) / "huggingface"


def default_run_dir(environ: Mapping[str, str], home: str) -> Path:
    """Sockets and locks. Short, as a socket's path may have 107 bytes; one a user and home, mode 0700."""
    name = hashlib.sha256(home.encode()).hexdigest()[:8]
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / f"hugging-llama-{name}"
    return Path(tempfile.gettempdir()) / f"hugging-llama-{os.getuid()}-{name}"


def fallback_origins(environ: Mapping[str, str]) -> dict[str, str]:
    """Where the settings of this file are from, by their names, if not from ours: others' variables, or a file."""
    variables = {
        "home": ("XDG_CACHE_HOME",),
        "run_dir": ("XDG_RUNTIME_DIR",),
        "hub_cache": ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"),
        "hub_endpoint": ("HF_ENDPOINT",),
        "hub_token": _TOKENS,
        "hub_token_file": ("HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME"),
    }
    found = {}
    for name, candidates in variables.items():
        if variable := next((variable for variable in candidates if environ.get(variable)), ""):
            found[name] = variable
    return found


def default_token_file(environ: Mapping[str, str]) -> Path:
    """The file that `hf auth login` writes and `hf auth logout` removes."""
    return Path(environ.get("HF_TOKEN_PATH") or str(hf_home(environ) / "token")).expanduser()


def hub_token(environ: Mapping[str, str]) -> str:
    """The token that huggingface_hub takes from its variables, before it looks at the login; "" if none."""
    return next((token for name in _TOKENS if (token := environ.get(name, "").strip())), "")


def read_token(path: str) -> str:
    """What the file of a login holds; "" if it isn't there or can't be read."""
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError):
        return ""
