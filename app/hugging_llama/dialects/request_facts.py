"""What is found out about the current request on its way, for its figures, its line in the log, and its trace."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from flask import has_request_context, request

from hugging_llama.neutral.events import Usage

_KEY = "hugging_llama.facts"
_PROBES = ("/health", "/ready", "/metrics")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFacts:
    """An answer of a model, from when the engine was asked to when it ended, by the request's clock; `usage` where the
    engine told it."""

    kind: Literal["generate", "pool"]
    model: str
    begun_at_ns: int
    ended_at_ns: int
    outcome: str
    usage: Usage | None = None


@dataclass(slots=True)
class RequestFacts:
    """Times are of `time.perf_counter()`; token counts and times of several answers to one request are added up.

    `endpoint` is the route's pattern, `model` the full name of a model that exists, `error` the code of what went wrong
    first, `has_left` whether the caller did not wait for the end, `has_ended` whether it was counted, `answers` those
    of models that have ended; of one that was left its pieces are counted, as so many tokens at least. `ignored` are
    the fields that nothing is done with. `spend` takes tokens from what the caller may still use, where that has a
    limit. `span` is its trace's, where there is one.
    """

    started: float = field(default_factory=time.perf_counter)
    started_at_ns: int = field(default_factory=time.time_ns)
    method: str = ""
    path: str = ""
    endpoint: str = ""
    request_id: str = ""
    key_id: str = ""
    key_name: str = ""
    model: str = ""
    status: int = 0
    error: str = ""
    has_left: bool = False
    has_ended: bool = False
    duration_s: float = 0.0
    first_token_s: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    spend: Callable[[int], None] | None = None
    trace_id: str = ""
    span: Any = None
    ignored: set[str] = field(default_factory=set)
    answers: list[AnswerFacts] = field(default_factory=list)

    @property
    def is_probe(self) -> bool:
        """Whether it comes from who watches the server, again and again."""
        return self.endpoint.endswith(_PROBES)

    def moment_ns(self) -> int:
        """Now, by the clock that `started_at_ns` was read from, wherever that has been set to meanwhile."""
        return self.started_at_ns + round((time.perf_counter() - self.started) * 1e9)

    def fail(self, code: str) -> None:
        """What went wrong first is kept."""
        self.error = self.error or code


def request_facts() -> RequestFacts:
    """Those of the current request; outside of one, new ones that nobody looks at."""
    if not has_request_context():
        return RequestFacts()
    found = request.environ.get(_KEY)
    if not isinstance(found, RequestFacts):
        found = request.environ[_KEY] = RequestFacts()
    return found
