"""Whether a server may listen where it is told to: without keys only where nobody else can reach it, and with those
that it is to ask for."""

import ipaddress
from collections.abc import Iterable

from hugging_llama_config.keys import KeyFileError, read_keys
from hugging_llama_config.settings import Settings


class ExposureError(Exception):
    """A server would be open to others, or could not ask for its keys; the message says what to do."""


def is_loopback(host: str) -> bool:
    """Whether a server that is bound to this can be reached from its own machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(settings: Settings, hosts: Iterable[str], *, was_closed: bool = False) -> bool:
    """Whether there are keys. Raises ExposureError if they can't be read, or are not there where the operator has named
    a file or the server `was_closed` before; or else unless all of these addresses are this machine's own, or the
    operator has said that it shall be so."""
    if _has_keys(settings, was_closed):
        return True
    open_host = next((host for host in hosts if not is_loopback(host)), None)
    if open_host is not None and not settings.insecure_no_auth:
        raise ExposureError(
            f"{open_host or 'every address'} can be reached by others, and there are no keys: make one with "
            "'hugging-llama keys add NAME', or let everybody in with --insecure-no-auth "
            "(HUGGING_LLAMA_INSECURE_NO_AUTH=true)"
        )
    return False


def _has_keys(settings: Settings, was_closed: bool) -> bool:
    path = settings.keys_path
    try:
        if path:
            read_keys(path)
            return True
    except KeyFileError as error:
        named = "HUGGING_LLAMA_KEYS_FILE: " if settings.keys_file else ""
        raise ExposureError(f"{named}{error}") from None
    except FileNotFoundError:
        if was_closed:
            raise ExposureError(
                f"{path} is gone, and this server has asked for its keys: bring it back, or stop the server and start "
                "one without keys"
            ) from None
    if settings.keys_file:
        raise ExposureError(
            f"HUGGING_LLAMA_KEYS_FILE: there is no file {path}: make a key with 'hugging-llama keys add NAME', or "
            "leave the setting out"
        )
    return False
