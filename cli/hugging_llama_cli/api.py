"""The server over HTTP: requests out, JSON and NDJSON back, every failure a one-line error."""

import contextlib
import json
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Protocol

import requests
from urllib3.exceptions import LocationParseError

from hugging_llama_cli.errors import BrokenOffError, CliError, ServerError, UnreachableError, UsageError
from hugging_llama_cli.http_session import http_session, insecure_text
from hugging_llama_cli.ignored import IGNORED_HEADER, IgnoredFields
from hugging_llama_config.client import ClientSettings

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 60.0
_CHUNK_BYTES = 65536
_NO_KEY = 401
_NOT_FOUND = 404
_UNREACHED = "is it running, and is the address right?"
_UNKNOWN_PATH = (_NOT_FOUND, 405, 501)
"""What web servers answer that know nothing of our paths, or of our methods there."""
_SHOWN_CHARACTERS = 200

Json = dict[str, Any]


class Body(Protocol):
    """What is sent as it is read; `len` is its size in bytes."""

    len: int

    def read(self, length: int = -1) -> bytes:
        """The next bytes, at most so many; none at the end."""
        ...


class Server:
    """One Hugging Llama server. Answers are checked to be JSON objects and nothing more; what the server says that it
    ignores of a request goes to stderr."""

    def __init__(self, settings: ClientSettings) -> None:
        self.url = settings.url
        self._is_served_here = settings.is_served_here
        self._ignored = IgnoredFields()
        try:
            self._session = http_session(settings.url, settings.ca_bundle)
        except ValueError:
            raise _no_address(self.url) from None
        self._session.headers["User-Agent"] = "hugging-llama"
        if settings.api_key:
            self._session.headers["Authorization"] = f"Bearer {settings.api_key}"

    def get(self, path: str, timeout_s: float = ANSWER_TIMEOUT_S) -> Json:
        """Raises ServerError."""
        with self._send("GET", path, None, timeout_s) as response:
            return _json_object(self.url, _body(self.url, response))

    def post(self, path: str, body: Mapping[str, Any]) -> Json:
        """No limit on the time: the model may have to be loaded first. Raises ServerError."""
        with self._send("POST", path, body, None) as response:
            return _json_object(self.url, _body(self.url, response))

    def send(self, path: str, body: Mapping[str, Any]) -> None:
        """POST what is answered by a status alone. Raises ServerError."""
        with self._send("POST", path, body, ANSWER_TIMEOUT_S) as response:
            _body(self.url, response)

    def delete(self, path: str, body: Mapping[str, Any]) -> Mapping[str, str]:
        """The answer is its status, and what the headers tell. Raises ServerError."""
        with self._send("DELETE", path, body, ANSWER_TIMEOUT_S) as response:
            _body(self.url, response)
            return response.headers

    def has(self, path: str) -> bool:
        """Whether there is something at `path`. Raises ServerError for all that is neither yes nor no."""
        try:
            with self._send("HEAD", path, None, ANSWER_TIMEOUT_S):
                return True
        except ServerError as error:
            if error.status != _NOT_FOUND:
                raise
            return False

    def upload(self, path: str, body: Body) -> None:
        """POST bytes; no limit on the time that the server takes to store them. Raises ServerError."""
        try:
            with _reported(self.url, is_served_here=self._is_served_here):
                response = self._session.post(
                    self.url + path, data=body, stream=True, timeout=(CONNECT_TIMEOUT_S, None)
                )
            with _accepted(self.url, response):
                _body(self.url, response)
        except BrokenOffError as error:  # a refusal that comes while bytes are still sent may get lost
            raise BrokenOffError(f"{error}; the file may be too large for it, its log says why") from None

    def stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Generator[Json, None, None]:
        """The objects of an NDJSON answer as they arrive. Closing the iterator closes the connection.

        Raises ServerError, also for an error object inside the stream.
        """
        with self._send("POST", path, {**body, "stream": True}, None, headers) as response:
            for line in _lines(self.url, response):
                item = _json_object(self.url, line)
                if item.get("error"):
                    raise ServerError(_error_text(item) or "unknown error")
                yield item

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        timeout_s: float | None,
        extra: Mapping[str, str] | None = None,
    ) -> requests.Response:
        # identity: a proxy that compresses would hold tokens back until a block is full
        headers = {"Accept": "application/x-ndjson, application/json", "Accept-Encoding": "identity", **(extra or {})}
        with _reported(self.url, is_served_here=self._is_served_here):
            response = self._session.request(
                method, self.url + path, json=body, headers=headers, stream=True,
                timeout=(CONNECT_TIMEOUT_S, timeout_s),
            )  # fmt: skip
        accepted = _accepted(self.url, response)
        self._ignored.tell(accepted.headers.get(IGNORED_HEADER))
        return accepted


@contextlib.contextmanager
def _reported(url: str, *, is_served_here: bool = False) -> Iterator[None]:
    """Turn what requests raises into our errors. `is_served_here`: who finds nobody there can start a server."""
    try:
        yield
    except requests.exceptions.ReadTimeout:
        raise UnreachableError(f"the server at {url} did not answer in time") from None
    except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
        raise BrokenOffError(f"the server at {url} broke off its answer") from None
    except requests.exceptions.SSLError as error:
        raise UnreachableError("; ".join(insecure_text(url, error))) from None
    except requests.exceptions.ConnectionError as error:
        if "Connection aborted" in str(error) or "Read timed out" in str(error):
            raise BrokenOffError(f"the server at {url} broke off its answer") from None
        advice = "run 'hugging-llama serve' to start it" if is_served_here else _UNREACHED
        raise UnreachableError(f"could not connect to Hugging Llama at {url}; {advice}") from None
    except OSError as error:  # of requests, or a file of certificates that is not there
        raise CliError(f"{url}: {error}") from None
    except LocationParseError:  # which requests lets through
        raise _no_address(url) from None


def _no_address(url: str) -> UsageError:
    ports = "HUGGING_LLAMA_HOST takes no port, --url and OLLAMA_HOST may have one"
    return UsageError(f"{url[:_SHOWN_CHARACTERS]} is no address of a server: {ports}")


def _accepted(url: str, response: requests.Response) -> requests.Response:
    """The response unless it is a refusal. Raises ServerError."""
    if response.status_code >= 400:
        with response:
            raise _refusal(url, response, _body(url, response))
    return response


def _body(url: str, response: requests.Response) -> bytes:
    with _reported(url):
        return response.content


def _lines(url: str, response: requests.Response) -> Iterator[bytes]:
    # without chunks only single bytes arrive at once: a larger read would wait until it is full
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    rest = b""
    with _reported(url):
        for piece in response.iter_content(_CHUNK_BYTES if chunked else 1):
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line for line in whole if line.strip())
    if rest.strip():
        yield rest


def _json_object(url: str, text: bytes) -> Json:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ServerError(f"the server at {url} did not answer in JSON; is it Hugging Llama?")
    return value


def _refusal(url: str, response: requests.Response, body: bytes) -> ServerError:
    status = response.status_code
    try:
        text = _error_text(json.loads(body))
    except ValueError:
        text = ""
    if not text:  # the words of a proxy, or of quite another server
        is_html = "html" in response.headers.get("Content-Type", "")
        words = "" if is_html else " ".join(body.decode(errors="replace").split())[:300]
        advice = "; is it Hugging Llama, and is the address right?" if status in _UNKNOWN_PATH else ""
        text = f"{url} answers {status} {response.reason}{words and f' ({words})'}{advice}"
    if status == _NO_KEY:
        text += "; set HUGGING_LLAMA_API_KEY to a key of that server"
    return ServerError(text, status)


def _error_text(value: Any) -> str:
    """The text of `{"error": "…"}` or of OpenAI's `{"error": {"message": "…"}}`."""
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return str(error) if error else ""
