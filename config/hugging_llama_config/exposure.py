"""Whether a server may listen where it is told to: without keys only where nobody else can reach it."""

import ipaddress
import os
from collections.abc import Iterable

from hugging_llama_config.settings import Settings


class ExposureError(Exception):
    """A server without keys would be open to others; the message says what to do."""


def is_loopback(host: str) -> bool:
    """Whether a server that is bound to this can be reached from its own machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(settings: Settings, hosts: Iterable[str]) -> None:
    """Raises ExposureError unless there are keys, or all of these addresses are this machine's own, or the operator
    has said that it shall be so."""
    if settings.insecure_no_auth or (settings.keys_file and os.path.exists(settings.keys_file)):
        return
    if (open_host := next((host for host in hosts if not is_loopback(host)), None)) is not None:
        raise ExposureError(
            f"{open_host or 'every address'} can be reached by others, and there are no keys: make one with "
            "'hugging-llama keys add NAME', or let everybody in with --insecure-no-auth "
            "(HUGGING_LLAMA_INSECURE_NO_AUTH=true)"
        )
