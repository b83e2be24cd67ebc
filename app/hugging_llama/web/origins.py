"""Which pages of which sites may call us, and by which names we may be called: a browser's defences, and ours.

Ollama's rules (its list of origins, its check of `Host`), for applications that are ours alone: an application that
mounts us has rules of its own.
"""

import ipaddress
import logging
import re
import socket
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped]
from flask import Flask, Response, request

from hugging_llama.dialects.base import empty_response
from hugging_llama_config.exposure import is_loopback

logger = logging.getLogger(__name__)

_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0")
_DEFAULT_ORIGINS = (
    *(f"{scheme}://{host}{port}" for host in _LOCAL for scheme in ("http", "https") for port in ("", ":*")),
    *(f"{scheme}://*" for scheme in ("app", "file", "tauri", "vscode-webview", "vscode-file")),
)
_LOCAL_ENDINGS = (".localhost", ".local", ".internal")
_PORT = re.compile(r"[0-9]{1,5}")
_BRACKETED = re.compile(r"\[([^]]*)\](:[0-9]*)?")
_METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_STAINLESS = (
    "arch", "async", "custom-poll-interval", "helper", "helper-method", "lang", "os", "package-version", "poll-helper",
    "retry-count", "runtime", "runtime-version", "stream-helper", "timeout",
)  # fmt: skip
_STAINLESS_HEADER = re.compile(r"x-stainless-[a-z0-9-]{1,64}")
"""What the clients of OpenAI and Anthropic tell of themselves, later versions under names that are not known yet."""
_MAX_STAINLESS = 50
_HEADERS = (
    "authorization", "content-type", "user-agent", "accept", "x-requested-with", "openai-beta",
    *(f"x-stainless-{name}" for name in _STAINLESS),
    # beyond Ollama's: what clients of the other dialects and of ours send
    "x-api-key", "anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access",
    "anthropic-workspace-id", "anthropic-user-profile-id", "anthropic-worker-id",
    "openai-organization", "openai-project", "content-encoding", "x-request-id", "x-hf-token",
    "traceparent", "tracestate", "baggage",
)  # fmt: skip
_EXPOSED = (
    "X-Request-ID, Request-Id, X-Truncated-Tokens, X-Queue-Position, X-Queue-Expected-Wait, X-Queue-Wait, "
    "X-Ignored-Fields, X-Freed-Bytes, Retry-After"
)
_MAX_AGE_S = 43200
_MAX_SAID = 100


@dataclass(frozen=True, slots=True)
class OriginPolicy:
    """`extra` are the operator's origins; one `*` each may stand for anything, alone for all there are."""

    extra: tuple[str, ...] = ()

    @property
    def allows_all(self) -> bool:
        return "*" in self.extra

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may call us."""
        return self.allows_all or any(_matches(pattern, origin) for pattern in (*self.extra, *_DEFAULT_ORIGINS))


@dataclass(frozen=True, slots=True)
class Gate:
    """Refuses requests of foreign pages, and those to a name that is not ours, and tells browsers what is allowed."""

    policy: OriginPolicy
    machine: str = field(default_factory=lambda: socket.gethostname().lower())
    _said: set[str] = field(default_factory=set)

    def install(self, app: Flask) -> None:
        """For every path, those that do not exist included."""
        app.before_request(self.check)
        app.after_request(self.mark)

    def check(self) -> Response | None:
        """An answer to a request that goes no further."""
        origin = self._foreign_origin()
        if origin and not self.policy.allows(origin):
            self._say(f"the origin {origin[:200]!r} is not allowed; HUGGING_LLAMA_ORIGINS can name it")
            return empty_response(403)
        if origin and request.method == "OPTIONS":
            return self._preflight()
        # clients of HTTP/1.0 need not name us, and no browser is one
        if not request.headers.get("Host") and request.environ.get("SERVER_PROTOCOL") != "HTTP/1.0":
            return empty_response(400)
        if not is_loopback(request.environ.get("SERVER_NAME", "")):
            return None
        hosts = _asked_hosts()
        for host in hosts:
            if not self._is_ours(host):
                self._say(f"the host {host[:200]!r} is not a name of ours; a proxy in front must rewrite it")
                return empty_response(403)
        # as in Ollama, for paths of any kind
        return empty_response(204) if request.method == "OPTIONS" and _address(hosts[0]) is None else None

    def mark(self, response: Response) -> Response:
        """Lets the page that asked read the answer."""
        origin = self._foreign_origin()
        if origin and self.policy.allows(origin):
            response.headers["Access-Control-Allow-Origin"] = "*" if self.policy.allows_all else origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
            if not self.policy.allows_all:
                response.vary.add("Origin")
        return response

    def _preflight(self) -> Response:
        response = empty_response(204)
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = ",".join((*_HEADERS, *_asked_stainless()))
        response.headers["Access-Control-Max-Age"] = str(_MAX_AGE_S)
        response.vary.update(("Access-Control-Request-Method", "Access-Control-Request-Headers"))
        return response

    def _foreign_origin(self) -> str:
        """The page's origin, "" if it is no page's request or one of our own pages'."""
        origin = request.headers.get("Origin", "")
        host = request.headers.get("Host", "")
        return "" if origin in (f"http://{host}", f"https://{host}") else origin

    def _is_ours(self, host: str) -> bool:
        if "%" in host:  # the zone of an IPv6 address, which may be any text and is no part of a name
            return False
        address = _address(host)
        if address is not None:
            is_near = address.is_loopback or address.is_private or address.is_unspecified
            return is_near or str(address) in _own_addresses()
        return host in ("", "localhost", self.machine) or host.endswith(_LOCAL_ENDINGS)

    def _say(self, text: str) -> None:
        """Once each, as the answer itself has no text; only so many, as callers choose them."""
        if text not in self._said and len(self._said) < _MAX_SAID:
            self._said.add(text)
            logger.warning("refused: %s", text)


def _asked_stainless() -> list[str]:
    """Those that the page means to send and that are not named already."""
    asked = request.headers.get("Access-Control-Request-Headers", "").lower().split(",")
    names = dict.fromkeys(name.strip() for name in asked)
    found = [name for name in names if name not in _HEADERS and _STAINLESS_HEADER.fullmatch(name)]
    return found[:_MAX_STAINLESS]


def _matches(pattern: str, origin: str) -> bool:
    head, star, tail = pattern.partition("*")
    if not star:
        return origin == pattern
    if not (len(origin) >= len(head) + len(tail) and origin.startswith(head) and origin.endswith(tail)):
        return False
    # in a port's place stands a port, and no more of a name
    is_port = head.endswith(":") and "//" in head
    return not is_port or _PORT.fullmatch(origin, len(head), len(origin) - len(tail)) is not None


def _asked_hosts() -> list[str]:
    """The names by which we are called: in the Host header, then in the target where that is a whole URL."""
    target = request.environ.get("RAW_URI", "")
    _, slashes, rest = target.partition("://")
    is_url = slashes and not target.startswith("/")
    asked = [request.headers.get("Host", ""), *([re.split(r"[/?#]", rest, maxsplit=1)[0]] if is_url else [])]
    return [_name_of(host) for host in asked]


def _name_of(host: str) -> str:
    """The name or address in a Host header, without its port."""
    if found := _BRACKETED.fullmatch(host):
        return found[1]
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() and ":" not in name else host).lower()


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _own_addresses() -> set[str]:
    return {found.address.partition("%")[0] for card in psutil.net_if_addrs().values() for found in card}
