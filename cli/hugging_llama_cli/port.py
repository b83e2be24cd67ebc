"""Is a port free, and if not, who has it?"""

import errno
import http.client
import os
import socket
from pathlib import Path

from hugging_llama_cli.errors import CliError
from hugging_llama_cli.plain import printable

_PROBE_TIMEOUT_S = 2.0
_TCP_LISTEN = "0A"
OURS, OLLAMA, OTHER = "another Hugging Llama server", "an Ollama server", "another program"


class PortTakenError(CliError):
    """Somebody listens there: what `kind` of server, and the `holder` with its process."""

    def __init__(self, host: str, port: int) -> None:
        self.kind = _server_kind({"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
        process = _process_name(port)
        self.holder = f"{self.kind} ({process})" if process else self.kind
        super().__init__(
            f"port {port} on {host or 'this machine'} is taken by {self.holder}; choose another with --port"
        )


def check_port(host: str, port: int) -> None:
    """Raises CliError with the reason if nobody could listen there now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise CliError(f"'{host}' is no address of this machine") from None
    with socket.socket(family, kind, protocol) as probe:
        # as gunicorn does: connections of an earlier server that are still winding down don't count
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTakenError(host, port) from None
            raise CliError(_reason(error, host, port)) from None


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EACCES:
        return f"no permission to listen on port {port}; ports below 1024 are the administrator's"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"'{host}' is no address of this machine"
    return f"can't listen on {host}:{port}: {error.strerror}"


def _server_kind(host: str, port: int) -> str:
    """What answers there, judged by what it says about itself."""
    try:
        health = _get(host, port, "/health")
        if health.startswith(b"{") and b'"device"' in health:
            return OURS
        if b"Ollama is running" in _get(host, port, "/"):
            return OLLAMA
    except (OSError, http.client.HTTPException):  # no HTTP, or no answer
        pass
    return OTHER


def _get(host: str, port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(4096)
    finally:
        connection.close()


def _process_name(port: int) -> str:
    """`python, pid 123` of who listens on `port`; "" where /proc does not tell, such as another user's process."""
    inodes = {inode for table in ("/proc/net/tcp", "/proc/net/tcp6") for inode in _listening_inodes(table, port)}
    sockets = {f"socket:[{inode}]" for inode in inodes}
    if not sockets:
        return ""
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if any(_target(entry) in sockets for entry in (process / "fd").iterdir()):
                return f"{printable((process / 'comm').read_text().strip())}, pid {process.name}"
        except OSError:  # not ours, or gone in the meantime
            continue
    return ""


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:  # closed in the meantime
        return ""


def _listening_inodes(table: str, port: int) -> list[str]:
    try:
        rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == _TCP_LISTEN and int(row[1].rpartition(":")[2], 16) == port]
