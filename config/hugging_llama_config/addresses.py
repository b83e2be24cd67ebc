"""Where a gunicorn master listens, and whether it could listen elsewhere."""

import socket
from typing import Any

from hugging_llama_config.settings import Settings


def told_hosts(server: Any) -> list[str]:
    """Of the addresses that gunicorn was told to bind; sockets in files have none."""
    return [address[0] for address in server.cfg.address if isinstance(address, tuple)]


def listening_hosts(server: Any) -> list[str]:
    names = [listener.sock.getsockname() for listener in server.LISTENERS]
    return [name[0] for name in names if isinstance(name, tuple)]


def check_address(settings: Settings, server: Any) -> None:
    """Raises OSError where nobody could listen: gunicorn would end. On a port of its own it closes its socket first, so
    there the host alone is tried."""
    is_own = any(settings.port == address[1] for address in server.cfg.address if isinstance(address, tuple))
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.create_server((settings.host, 0 if is_own else settings.port), family=family):
        pass
