"""One server over HTTP, and how the pieces of a stream arrive from it."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from urllib3.exceptions import ProtocolError

from hugging_llama_cli.checks.finding import innermost
from hugging_llama_cli.http_session import http_session, insecure_text
from hugging_llama_cli.render import parse_time
from hugging_llama_config.client import ClientSettings

_TIMEOUTS_S = (10.0, 30.0)
# a load of a large model, and a proxy that keeps all of a slow answer, take their time
_STREAM_TIMEOUTS_S = (10.0, 600.0)
_NUM_TOKENS = 128
_ENOUGH = 32
"""So many pieces don't come out of a buffer."""
_HELD = 0.5
_LITTLE_LAG = 0.05
"""Of a stream's lines. A buffer of 4 KB, which holds some thirty of them, delays by twice as much."""
_ATTEMPTS = 3
_SLOW_S = 5.0
"""What takes as long as this is not spoilt by a busy machine, and is not tried again."""
_OWN_SOFTWARE = "gunicorn"


class NoAnswerError(Exception):
    """The server did not answer as it should; `status` is 0 where it did not answer at all. `advice`, where there is
    one that fits this alone, says what to do."""

    def __init__(self, message: str, status: int = 0, advice: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.advice = advice


class ClosedError(NoAnswerError):
    """The request was taken and the connection closed."""


class Target:
    """A server at a URL. Nothing is tried twice."""

    def __init__(self, url: str, client: ClientSettings) -> None:
        self.url = url
        self.software = ""
        self._session = http_session(url, client.ca_bundle)
        self._session.headers.update({"User-Agent": "hugging-llama doctor", "Accept-Encoding": "identity"})
        if client.api_key:
            self._session.headers["Authorization"] = f"Bearer {client.api_key}"

    @property
    def is_direct(self) -> bool:
        """Whether it answers itself; known after the first answer."""
        return self.software.startswith(_OWN_SOFTWARE)

    def json(self, path: str) -> dict[str, Any]:
        """An answer that must be a JSON object. Raises NoAnswerError."""
        with self._send("GET", path, _TIMEOUTS_S) as response:
            try:
                value = response.json()
            except requests.RequestException:
                value = None
            if not response.ok or not isinstance(value, dict):
                raise self._refusal(path, response)
            return value

    def status(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> int:
        """Raises NoAnswerError."""
        with self._send(method, path, _TIMEOUTS_S, headers, body) as response:
            return response.status_code

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[bytes]:
        """The pieces of an answer as they were sent: one that is read late stays apart from the next one, as a chunk
        of HTTP. Raises NoAnswerError."""
        with self._send("POST", path, _STREAM_TIMEOUTS_S, None, body) as response:
            if not response.ok:
                raise self._refusal(path, response)
            try:
                yield from response.iter_content(chunk_size=None)
            except requests.RequestException:
                raise NoAnswerError(f"{self.url}{path}: the stream was cut") from None

    def _send(
        self,
        method: str,
        path: str,
        timeouts_s: tuple[float, float],
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> requests.Response:
        try:
            response = self._session.request(
                method, self.url + path, headers=headers, json=body, timeout=timeouts_s, stream=True,
                allow_redirects=False,
            )  # fmt: skip
        except requests.exceptions.SSLError as error:
            message, advice = insecure_text(self.url, error)
            raise NoAnswerError(message, advice=advice) from None
        except requests.Timeout:
            raise NoAnswerError(f"{self.url} does not answer in time") from None
        except (OSError, ValueError) as error:
            if error.args and isinstance(error.args[0], ProtocolError):
                raise ClosedError(f"{self.url} closes the connection without an answer") from None
            raise NoAnswerError(f"{self.url} can't be reached: {innermost(error)}") from None
        self.software = self.software or response.headers.get("Server", "")
        return response

    def _refusal(self, path: str, response: requests.Response) -> NoAnswerError:
        return NoAnswerError(f"{self.url}{path} answers {response.status_code} {response.reason}", response.status_code)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How the lines of a stream came: how many, in how many pieces, and when.

    `lag`: how many later ones had been made by the time when a line came, on average and of all lines. Counted in lines
    and not in seconds, a pause of the server says nothing.
    """

    num_lines: int
    num_arrivals: int
    first_s: float
    total_s: float
    lag: float = math.inf

    @property
    def flows(self) -> bool:
        """By either sign, as a busy proxy, which reads lines late and sends them on together, may take away one."""
        return self.num_arrivals >= min(_ENOUGH, self.num_lines) or self.lag < _LITTLE_LAG

    @property
    def is_held(self) -> bool:
        return self.first_s > _HELD * self.total_s


class StreamTrial:
    """Short generations on one server, as long as they seem to be held back."""

    def __init__(self, target: Target, model: str) -> None:
        self.target = target
        self.model = model or _some_model(target)
        self._best: Arrivals | None = None

    def run(self) -> Arrivals:
        """The attempt with the most arrivals; done once. Raises NoAnswerError."""
        if self._best is None:
            self._measure(num_tokens=1)  # loads the model, if need be
            tries = []
            for _ in range(_ATTEMPTS):
                tries.append(self._measure())
                if tries[-1].flows or tries[-1].total_s > _SLOW_S:
                    break
            self._best = max(tries, key=lambda found: (found.flows, found.num_arrivals))
        return self._best

    def _measure(self, num_tokens: int = _NUM_TOKENS) -> Arrivals:
        """One generation. It is left as soon as it is known to flow."""
        options = {"num_predict": num_tokens, "min_new_tokens": num_tokens, "temperature": 0, "seed": 1}
        body = {"model": self.model, "prompt": "Once upon a time", "raw": True, "stream": True, "options": options}
        begun = time.monotonic()
        first_s = 0.0
        lines = arrivals = 0
        stamps: list[tuple[float, float]] = []
        rest = b""
        for piece in self.target.stream("/api/generate", body):
            now = time.monotonic()
            first_s = first_s or now - begun
            arrivals += 1
            *whole, rest = (rest + piece).split(b"\n")
            for line in filter(bytes.strip, whole):
                lines += 1
                stamps += self._stamp(line, now)
            if arrivals >= _ENOUGH:
                break
        else:
            if rest.strip():  # the last line of others may end without a newline
                lines += 1
                stamps += self._stamp(rest, time.monotonic())
        return Arrivals(lines, arrivals, first_s, time.monotonic() - begun, mean_lag(stamps))

    def _stamp(self, line: bytes, now: float) -> list[tuple[float, float]]:
        """When it was made and when it came, if it says so. Raises NoAnswerError for an error."""
        said = _object(line)
        if not said or "error" in said:
            raise NoAnswerError(
                f"{self.target.url}: {self.model} answers with an error: {line[:200].decode(errors='replace')}"
            )
        return [(made.timestamp(), now)] if (made := parse_time(said.get("created_at"))) else []


def mean_lag(stamps: Sequence[tuple[float, float]]) -> float:
    """Of when lines were made, by a clock of the server, and came, by one of ours; infinite where that says nothing.

    The clocks are compared by the promptest line, so one that came together with a later one counts as late by it.
    """
    if not stamps or stamps[0][0] == stamps[-1][0]:
        return math.inf
    promptest = min(came - made for made, came in stamps)
    overtaken = sum(came - later >= promptest for i, (_, came) in enumerate(stamps) for later, _ in stamps[i + 1 :])
    return overtaken / len(stamps) ** 2


def _object(line: bytes) -> dict[str, Any]:
    """Empty for what is no JSON object."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _some_model(target: Target) -> str:
    """One in memory, else the smallest that completes text. Raises NoAnswerError."""
    for path in ("/api/ps", "/api/tags"):
        models = [model for model in target.json(path).get("models") or [] if _completes(model)]
        if models:
            return str(min(models, key=lambda model: model.get("size") or 0)["name"])
    raise NoAnswerError(f"{target.url} has no model that completes text: pull one, or use --model")


def _completes(model: Any) -> bool:
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        return False
    capabilities = model.get("capabilities")
    return not isinstance(capabilities, list) or "completion" in capabilities
