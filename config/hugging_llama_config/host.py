"""The grammar of OLLAMA_HOST, as Ollama's Go code reads it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

logger = logging.getLogger(__name__)

DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUrl:
    """A server's address. `host` may be empty, which means all interfaces to a server."""

    scheme: str = "http"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str = ""

    @property
    def url(self) -> str:
        """The base URL for a client; an address that means "all interfaces" becomes loopback."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        shown = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{shown}:{self.port}{self.path}"


def parse_host(text: str, default_port: int = DEFAULT_PORT) -> HostUrl:
    """`[scheme://]host[:port][/path]`; a bad port is replaced by the default with a warning, as Ollama does."""
    text = text.strip().strip("\"'")
    if not text:
        return HostUrl(port=default_port)
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "http", text
    else:
        default_port = _SCHEME_PORTS.get(scheme, default_port)
    address, slash, path = rest.partition("/")
    host, port_text = _split_port(address)
    port = default_port
    if port_text:
        if port_text.isdecimal() and int(port_text) <= 65535:
            port = int(port_text)
        else:
            logger.warning("invalid port %r in host %r, using %d", port_text, text, default_port)
    path = (slash + path).rstrip("/")
    return HostUrl(scheme=scheme, host=host, port=port, path=path)


def _split_port(address: str) -> tuple[str, str]:
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host, rest.removeprefix(":")
    if address.count(":") > 1:  # an IPv6 address without brackets has no port
        return address, ""
    host, _, port = address.partition(":")
    return host, port


def client_url(environ: Mapping[str, str]) -> str:
    """Where a client finds the server: OLLAMA_HOST, else loopback on OLLAMA_LOCAL_PORT or 11434."""
    port_text = environ.get("OLLAMA_LOCAL_PORT", "").strip()
    port = int(port_text) if port_text.isdecimal() and 0 < int(port_text) <= 65535 else DEFAULT_PORT
    host = environ.get("OLLAMA_HOST", "").strip()
    return parse_host(host, port).url if host else HostUrl(port=port).url
