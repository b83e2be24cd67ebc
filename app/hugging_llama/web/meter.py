"""Follows each request from its begin to its end, be that the end of a stream, and tells whoever wants to know."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from flask import Flask, Response, request

from hugging_llama.dialects.request_facts import RequestFacts, request_facts
from hugging_llama.dialects.request_id import request_id

UNKNOWN = "unknown"
"""The endpoint of a path that is no route: paths are of the callers' choice."""
_GONE = 499

Listener = Callable[[RequestFacts], None]


class RequestMeter:
    """`begin` is called when a request comes, `answered` with its answer, `end` once when it has ended."""

    def __init__(
        self,
        begin: Iterable[Listener],
        end: Iterable[Listener],
        answered: Iterable[Callable[[RequestFacts, Response], None]] = (),
    ) -> None:
        self._begin = tuple(begin)
        self._answered = tuple(answered)
        self._end = tuple(end)

    def install(self, target: Flask) -> None:
        """Before all else that looks at requests, so that refused ones are seen, too."""
        target.before_request(self.begin)
        target.after_request(self.answer)

    def begin(self) -> None:
        """What is known of a request when it comes."""
        facts = request_facts()
        rule = request.url_rule
        facts.endpoint = rule.rule if rule is not None else UNKNOWN
        facts.method, facts.path, facts.request_id = request.method, request.path, request_id()
        for tell in self._begin:
            tell(facts)

    def answer(self, response: Response) -> Response:
        """An answer in one piece is over when it is made: it is counted before anybody can have read it.

        A second answer to the same request is the page for a hook that has failed with the first one.
        """
        facts = request_facts()
        facts.status = response.status_code
        for tell in self._answered:
            tell(facts, response)
        end = partial(self.end, facts)
        if not response.is_streamed or request.method == "HEAD":
            end()
            return response
        response.response = _followed(response.response, end)  # type: ignore[arg-type]
        response.call_on_close(end)  # the caller may leave early, or never begin
        return response

    def end(self, facts: RequestFacts) -> None:
        """Of several calls for a request the first one counts."""
        if facts.has_ended:
            return
        facts.has_ended = True
        facts.duration_s = time.perf_counter() - facts.started
        if facts.status >= 400 and facts.status != _GONE:
            facts.fail(f"http_{facts.status}")
        for tell in self._end:
            tell(facts)


def _followed(chunks: Iterable[bytes], end: Callable[[], None]) -> Iterator[bytes]:
    """The same, with the end told before the caller can know of it."""
    yield from chunks
    end()
