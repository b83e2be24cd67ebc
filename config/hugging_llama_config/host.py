"""Where a server listens and its clients find it. The grammar of OLLAMA_HOST is that of Ollama's Go code."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

logger = logging.getLogger(__name__)

DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}
# HUGGING_LLAMA_PORT, where Kubernetes knows a service that is called hugging-llama
_KUBERNETES_LINK = re.compile(r"(tcp|udp)://\S+:[0-9]+")
_NUMBER = re.compile(r"\+?[0-9]{1,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUrl:
    """A server's address. `host` may be empty, which means all interfaces to a server."""

    scheme: str = "http"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str = ""

    @property
    def client_host(self) -> str:
        """Where a client asks; an address that means "all interfaces" becomes loopback."""
        return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)

    @property
    def url(self) -> str:
        """The base URL for a client."""
        shown = f"[{self.client_host}]" if ":" in self.client_host else self.client_host
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
        if _is_port(port_text):
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


def resolve_address(environ: Mapping[str, str], default: HostUrl | None = None) -> HostUrl:
    """The one address for servers and clients: HUGGING_LLAMA_HOST and _PORT, then OLLAMA_HOST, then `default`.

    OLLAMA_LOCAL_PORT is the port where OLLAMA_HOST names none.
    """
    default = default or HostUrl()
    port = _port(environ, "OLLAMA_LOCAL_PORT", default.port)
    text = environ.get("OLLAMA_HOST", "").strip().strip("\"'")
    found = parse_host(text, port) if text else replace(default, port=port)
    if host := environ.get("HUGGING_LLAMA_HOST", "").strip():
        found = HostUrl(host=host.strip("[]"), port=found.port)
    return replace(found, port=_port(environ, "HUGGING_LLAMA_PORT", found.port))


def address_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Which variables `resolve_address` takes the `host` and the `port` from; without an entry it is the default."""
    found = {}
    text = environ.get("OLLAMA_HOST", "").strip().strip("\"'")
    if environ.get("HUGGING_LLAMA_HOST", "").strip():
        found["host"] = "HUGGING_LLAMA_HOST"
    elif text:
        found["host"] = "OLLAMA_HOST"
    if _is_port(environ.get("HUGGING_LLAMA_PORT", "").strip()):
        found["port"] = "HUGGING_LLAMA_PORT"
    elif text and _says_port(text):
        found["port"] = "OLLAMA_HOST"
    elif _is_port(environ.get("OLLAMA_LOCAL_PORT", "").strip()):
        found["port"] = "OLLAMA_LOCAL_PORT"
    return found


def is_kubernetes_link(text: str) -> bool:
    """`tcp://10.0.0.1:11434`: what Kubernetes, and not the operator, says in HUGGING_LLAMA_PORT."""
    return bool(_KUBERNETES_LINK.fullmatch(text))


def _says_port(text: str) -> bool:
    scheme, found, rest = text.partition("://")
    if found and scheme in _SCHEME_PORTS:
        return True
    return _is_port(_split_port((rest if found else text).partition("/")[0])[1])


def _is_port(text: str) -> bool:
    # Go's ParseInt takes a sign, too
    return bool(_NUMBER.fullmatch(text)) and int(text) <= 65535


def _port(environ: Mapping[str, str], variable: str, default: int) -> int:
    text = environ.get(variable, "").strip()
    if not text or is_kubernetes_link(text):
        return default
    if _is_port(text):
        return int(text)
    logger.warning("%s=%r can't be read and is ignored", variable, text)
    return default
