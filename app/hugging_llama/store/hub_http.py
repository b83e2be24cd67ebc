"""HTTP towards the Hub: redirects that can't carry the token away, replies that can't fill the memory."""

import contextlib
import ipaddress
import re
import socket
import ssl
import time
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import requests
import urllib3

from hugging_llama.errors import KeyRejectedError, TransferError
from hugging_llama.store.retry import RetryPolicy, TransientError

MAX_JSON_BYTES = 32 * 2**20
_MAX_REDIRECTS = 5
_MAX_JSON_S = 60.0
_READ_BYTES = 2**18
_BLOCK_BYTES = 2**16
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_UNREACHABLE = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
    requests.exceptions.SSLError,
)
_RATE_LIMIT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", re.ASCII)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAccess:
    """The one Hub that is ever contacted; the token is sent nowhere else."""

    endpoint: str
    token: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        """The Hub's name, for messages."""
        return urllib.parse.urlsplit(self.endpoint).netloc.rpartition("@")[2]

    @property
    def public_endpoint(self) -> str:
        """The endpoint without a password that may be in it, for messages."""
        return urllib.parse.urlunsplit(urllib.parse.urlsplit(self.endpoint)._replace(netloc=self.host))


class HubHttp:
    """GET requests to one Hub. Not for several threads at once."""

    def __init__(self, access: HubAccess, policy: RetryPolicy) -> None:
        if _origin(access.endpoint) is None:
            raise TransferError("the address of the Hub is not an http(s) URL", cause="endpoint")
        if not (access.token.isascii() and all("!" <= letter <= "~" for letter in access.token)):
            raise KeyRejectedError("the token for the Hub has characters that no token has", realm=access.host)
        self._access = access
        self._timeout = (policy.connect_timeout_s, policy.read_timeout_s)
        self._session = requests.Session()
        # An `auth` that does nothing keeps requests from adding passwords that it finds in ~/.netrc.
        self._session.auth = _no_auth

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, url: str, headers: dict[str, str] | None = None) -> requests.Response:
        """The reply, its body unread, after safe redirects. The caller closes it.

        Raises TransientError for what may go away, TransferError for a redirect that is refused.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._get_once(url, headers or {})
            if response.status_code not in _REDIRECTS:
                return self._checked(response)
            target = urllib.parse.urljoin(url, response.headers.get("Location", ""))
            response.close()
            self._check_redirect(url, target)
            url = target
        raise TransferError(f"{self._access.host} redirects without end", cause="redirects")

    def is_own(self, response: requests.Response) -> bool:
        """Whether the Hub itself gave this reply, and not a host that it redirects to."""
        return _origin(response.url) == _origin(self._access.endpoint)

    def _get_once(self, url: str, extra: dict[str, str]) -> requests.Response:
        headers = {"Accept-Encoding": "identity", "User-Agent": "hugging-llama", **extra}
        if self._access.token and _origin(url) == _origin(self._access.endpoint):
            headers["Authorization"] = f"Bearer {self._access.token}"
        try:
            return self._session.get(url, headers=headers, stream=True, timeout=self._timeout, allow_redirects=False)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise TransferError("the Hub redirects to something that is not a URL", cause="redirect") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            host = urllib.parse.urlsplit(url).netloc.rpartition("@")[2] or self._access.host
            is_unreachable = any(isinstance(item, _UNREACHABLE) for item in _chain(error))
            verb = "can't reach" if is_unreachable else "no answer from"
            raise TransientError(f"{verb} {host}: {_cause(error)}", is_unreachable=is_unreachable) from error

    def _checked(self, response: requests.Response) -> requests.Response:
        if response.status_code not in TRANSIENT_STATUS:
            return response
        response.close()
        raise TransientError(
            f"{self._access.host} answered {response.status_code}", retry_after_s=retry_after_s(response.headers)
        )

    def _check_redirect(self, source: str, target: str) -> None:
        here, there = _origin(source), _origin(target)
        if there is None:
            raise TransferError("the Hub redirects to something that is not a URL", cause="redirect")
        if here is not None and here[0] == "https" and there[0] != "https":
            raise TransferError("the Hub redirects from https to http", cause="redirect")
        # A public Hub has no business inside of our network; a Hub inside of it may well have its store there.
        if is_inside(there[1]) and not is_inside(urllib.parse.urlsplit(self._access.endpoint).hostname or ""):
            raise TransferError("the Hub redirects to an address inside of this network", cause="redirect")


def read_json_bytes(response: requests.Response) -> bytes:
    """The whole body, at most MAX_JSON_BYTES of it after decompression. Closes the reply.

    Raises TransferError for a body that is too big or packed in another way, TransientError for one that is cut.
    """
    deadline = time.monotonic() + _MAX_JSON_S
    body = bytearray()
    with response:
        while chunk := _read_block(response):
            body += chunk
            if len(body) > MAX_JSON_BYTES:
                raise TransferError("a reply of the Hub is too big", cause="reply too big")
            if time.monotonic() > deadline:
                raise TransientError("a reply of the Hub takes too long")
    return _unpacked(bytes(body), response.headers.get("Content-Encoding", "identity").strip().lower())


def read_chunk(response: requests.Response) -> bytes:
    """The next bytes of a file's body as they come, b"" at its end. Raises TransientError when the connection fails."""
    with _failures_told():
        data: bytes = response.raw.read1(_READ_BYTES, decode_content=False)
        return data


def is_inside(host: str) -> bool:
    """Whether a host is named by an address that is not public, or is this machine."""
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return not ipaddress.ip_address(socket.inet_ntoa(socket.inet_aton(host))).is_global  # also 0x7f.1, 2130706433
    except (OSError, ValueError):
        pass
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _read_block(response: requests.Response) -> bytes:
    with _failures_told():
        data: bytes = response.raw.read(_BLOCK_BYTES, decode_content=False)
        return data


@contextlib.contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except (urllib3.exceptions.HTTPError, requests.RequestException, OSError, ValueError) as error:
        raise TransientError(f"the connection failed: {_cause(error)}") from error


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise TransferError("a reply of the Hub is packed in an unknown way", cause="encoding")
    unpacker = zlib.decompressobj(31)
    try:
        text = unpacker.decompress(body, MAX_JSON_BYTES + 1)
    except zlib.error as error:
        raise TransferError("a reply of the Hub can't be unpacked", cause="encoding") from error
    if len(text) > MAX_JSON_BYTES:
        raise TransferError("a reply of the Hub is too big", cause="reply too big")
    return text


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _origin(url: str) -> tuple[str, str, int] | None:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        return (parts.scheme, parts.hostname, port) if parts.hostname else None
    except (ValueError, KeyError):
        return None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What the server asks for, in `Retry-After` or in the Hub's own `RateLimit: "api";r=0;t=55`."""
    limit = _RATE_LIMIT.search(headers.get("RateLimit", ""))
    text = limit[1] if limit else headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _chain(error: BaseException) -> Iterator[object]:
    """An exception and what it is made of; the libraries hide causes in arguments and attributes."""
    waiting: list[object] = [error]
    for _ in range(50):
        if not waiting:
            return
        item = waiting.pop(0)
        yield item
        if isinstance(item, BaseException):
            waiting += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]


def _cause(error: BaseException) -> str:
    """What went wrong, in the operating system's words: those of the libraries hold addresses of objects."""
    for item in _chain(error):
        # urllib3 counts a refused connection among those that took too long
        is_late = isinstance(item, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError)
        if is_late and not isinstance(item, urllib3.exceptions.NewConnectionError):
            return "timed out"
        if isinstance(item, ssl.SSLCertVerificationError):
            return "its certificate is not trusted"
        if isinstance(item, OSError) and item.strerror:
            return str(item.strerror).lower()
    return "the connection was cut"
