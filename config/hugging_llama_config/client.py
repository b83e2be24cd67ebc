"""What the command line client takes from environment and files; the rest it gets from its flags and the server."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hugging_llama_config import host, paths
from hugging_llama_config.env import load
from hugging_llama_config.exposure import is_loopback

HISTORY_NAME = ".hugging_llama_history"
_TRUE = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """`url` is the server; `history_path` None means that nothing is remembered; `colour` is NO_COLOR's wish;
    a dumb terminal can't move its cursor.

    `home` is where a refreshed catalog lies; the Hub is asked for nothing else by this side. `hub_token` is this user's
    for the Hub, "" if there is none: for that, and for pushes. `is_hub_offline`: it may not be asked. `ca_bundle` is a
    file of certificates that servers are trusted by, "" for those of this machine. `is_served_here`: a server that is
    started in this environment listens at this url.
    """

    url: str
    history_path: Path | None
    colour: bool = True
    is_dumb: bool = False
    api_key: str = field(default="", repr=False)
    home: Path
    hub_endpoint: str = paths.DEFAULT_HUB_ENDPOINT
    hub_token: str = field(default="", repr=False)
    is_hub_offline: bool = False
    ca_bundle: str = ""
    is_served_here: bool = False


def load_client_settings(url: str | None = None, environ: Mapping[str, str] | None = None) -> ClientSettings:
    """`url` is the flag and wins over the rest, which a server of the same environment and files reads in the same way.

    What is wrong with the server's settings is not the client's to say.
    """
    environ = os.environ if environ is None else environ
    loaded = load(environ)
    settings = loaded.settings
    # Ollama reads a switch it can't parse as true
    no_history = environ.get("OLLAMA_NOHISTORY", "").strip().lower() not in {"", "0", "false", "f"}
    own = host.resolve_address(environ, loaded.listening_in_files)
    address = host.parse_host(url) if url else own
    return ClientSettings(
        url=address.url,
        history_path=None if no_history else Path(environ.get("HOME") or Path("~").expanduser()) / HISTORY_NAME,
        colour=not environ.get("NO_COLOR") and environ.get("TERM") != "dumb",
        is_dumb=environ.get("TERM") == "dumb",
        api_key=(environ.get("HUGGING_LLAMA_API_KEY") or environ.get("OLLAMA_API_KEY", "")).strip(),
        home=Path(settings.home),
        hub_endpoint=settings.hub_endpoint,
        hub_token=settings.find_hub_token(),
        # as huggingface_hub reads them
        is_hub_offline=(environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE", "")).upper() in _TRUE,
        # as requests reads them
        ca_bundle=environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE", ""),
        is_served_here=address.url == own.url and is_loopback(address.client_host),
    )


def server_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with `changes` on top, for the server that `serve` becomes."""
    return {**os.environ, **changes}
