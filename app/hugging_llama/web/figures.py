"""What the web side counts. `docs/metrics.md` says what each family means; the space of all series is bounded.

Labels take values that the server has chosen: routes, statuses and codes, full names of models that exist, names of
keys. Of pairs of route and model, and of keys, only so many are told apart (see `bounded_names`).
"""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from hugging_llama.dialects.request_facts import RequestFacts
from hugging_llama.web.bounded_names import OTHER, BoundedNames, shown

MAX_PAIRS = 100
"""Pairs of route and model."""
MAX_KEYS = 64
_PREFIX = "hugging_llama_"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_FAST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_PAIR = ("endpoint", "model")
_KEY = ("key_id", "key")

MetricT = TypeVar("MetricT", bound=MetricWrapperBase)


class BatchHistogram(Histogram):
    """One that takes many observations at the cost of a few: each alone is two writes to a file of all workers."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """As `observe` with each of them."""
        self._sum.inc(sum(amounts))
        for index, number in Tally(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[index].inc(number)


class Figures:
    """All families, in one registry. With `folder` the labels' values are those of all workers that count there."""

    def __init__(self, registry: CollectorRegistry, folder: Path | None = None) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(_PREFIX + name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(_PREFIX + name, text, _PAIR, buckets=buckets, registry=registry)

        self.requests = counter("requests", "HTTP requests that have ended", "endpoint", "status")
        self.errors = counter("errors", "Requests that failed, by the code of the error", "endpoint", "code")
        self.request = histogram("request_seconds", "Whole HTTP requests, streams to their end")
        self.first_token = histogram("time_to_first_token_seconds", "Request to first token")
        self.inter_token = BatchHistogram(
            _PREFIX + "inter_token_seconds", "Between tokens of a stream", _PAIR,
            buckets=_FAST_SECONDS, registry=registry,
        )  # fmt: skip
        self.queue = histogram("queue_seconds", "Waiting for a place in the batch")
        self.generation = histogram("generation_seconds", "Whole generations")
        self.generations = counter("generations", "Generations, by how they ended", "endpoint", "outcome")
        self.prompt_tokens = counter("prompt_tokens", "Tokens read, cached ones included", *_PAIR)
        self.cached_tokens = counter("cached_tokens", "Prompt tokens that were known already", *_PAIR)
        self.output_tokens = counter("output_tokens", "Tokens written", *_PAIR)
        self.prefix_hits = counter("prefix_hits", "Generations whose prompt began with a known prefix", *_PAIR)
        self.pulls = counter("pulls", "Pulls, by how they ended", "outcome")
        self.pushes = counter("pushes", "Pushes, by how they ended", "outcome")
        self.pulled_bytes = counter("pulled_bytes", "Bytes fetched from the Hub")
        self.key_requests = counter("key_requests", "Requests with a key", *_KEY)
        self.key_prompt_tokens = counter("key_prompt_tokens", "Tokens read for a key", *_KEY)
        self.key_output_tokens = counter("key_output_tokens", "Tokens written for a key", *_KEY)
        self.workers = counter("workers_started", "Web workers that have begun to serve")
        self.running = Gauge(
            _PREFIX + "requests_in_progress", "HTTP requests that are being answered",
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self._pairs: dict[tuple[str, str], PairFigures] = {}
        self._pair_names = BoundedNames(MAX_PAIRS, folder and folder / "hugging_llama_pairs")
        self._key_names = BoundedNames(MAX_KEYS, folder and folder / "hugging_llama_keys")

    def pair(self, endpoint: str, model: str) -> "PairFigures":
        """The series of a route and a model; of a route alone, with the model ""."""
        model = shown(model)
        if model and not self._pair_names.holds(f"{endpoint} {model}"):
            model = OTHER
        found = self._pairs.get((endpoint, model))
        # of two threads that come first, both get the same
        return found or self._pairs.setdefault((endpoint, model), PairFigures(self, endpoint, model))

    def key_labels(self, facts: RequestFacts) -> tuple[str, str] | None:
        """The labels of the request's key, None where it has none."""
        if not facts.key_id:
            return None
        if not self._key_names.holds(facts.key_id):
            return OTHER, OTHER
        return shown(facts.key_id), shown(facts.key_name)

    def begin(self, facts: RequestFacts) -> None:
        """A request has come."""
        self.running.inc()

    def end(self, facts: RequestFacts) -> None:
        """A request has ended; it is in progress until all else is counted."""
        self.requests.labels(facts.endpoint, str(facts.status)).inc()
        self.pair(facts.endpoint, facts.model).request.observe(facts.duration_s)
        if facts.error:
            self.errors.labels(facts.endpoint, facts.error).inc()
        if (key := self.key_labels(facts)) is not None:
            self.key_requests.labels(*key).inc()
        self.running.dec()

    def count_tokens(self, facts: RequestFacts, pair: "PairFigures", prompt: int, cached: int, output: int) -> None:
        """An answer has ended that has read and written so much."""
        facts.prompt_tokens += prompt
        facts.cached_tokens += cached
        facts.output_tokens += output
        pair.prompt_tokens.inc(prompt)
        if output:
            pair.output_tokens.inc(output)
        if cached:
            pair.cached_tokens.inc(cached)
            pair.prefix_hits.inc()
        if (key := self.key_labels(facts)) is not None:
            self.key_prompt_tokens.labels(*key).inc(prompt)
            self.key_output_tokens.labels(*key).inc(output)


class PairFigures:
    """The series of one route and one model, each made when it is first needed."""

    def __init__(self, figures: Figures, endpoint: str, model: str) -> None:
        self._figures = figures
        self._labels = endpoint, model

    def _of(self, family: MetricT) -> MetricT:
        return family.labels(*self._labels)

    @cached_property
    def request(self) -> Histogram:
        return self._of(self._figures.request)

    @cached_property
    def first_token(self) -> Histogram:
        return self._of(self._figures.first_token)

    @cached_property
    def inter_token(self) -> BatchHistogram:
        return self._of(self._figures.inter_token)

    @cached_property
    def queue(self) -> Histogram:
        return self._of(self._figures.queue)

    @cached_property
    def generation(self) -> Histogram:
        return self._of(self._figures.generation)

    @cached_property
    def prompt_tokens(self) -> Counter:
        return self._of(self._figures.prompt_tokens)

    @cached_property
    def cached_tokens(self) -> Counter:
        return self._of(self._figures.cached_tokens)

    @cached_property
    def output_tokens(self) -> Counter:
        return self._of(self._figures.output_tokens)

    @cached_property
    def prefix_hits(self) -> Counter:
        return self._of(self._figures.prefix_hits)
