"""GET /metrics: HTTP figures by prometheus-flask-exporter, our own over whole streams, and the engine's.

The exporter's durations end when a streamed response begins, so streams are measured here, event by event.
"""

import time
from collections.abc import Callable, Iterator

from flask import Blueprint, Flask, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_flask_exporter import PrometheusMetrics

from hugging_llama.client.base import EngineClient
from hugging_llama.dialects.base import app_context
from hugging_llama.dialects.documented import Answer, documented
from hugging_llama.errors import EngineError, HuggingLlamaError
from hugging_llama.neutral.events import EngineStatus, EventStream, Finished, GenerateEvent, Progress
from hugging_llama.web.context import Exporter, web_context

blueprint = Blueprint("metrics", __name__)

ENGINE_TIMEOUT_S = 0.5
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_FAST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_COUNTERS = {
    "steps": ("steps_total", "Forward passes"),
    "step_sequences": ("step_sequences_total", "Sequences over all forward passes; by steps: the mean batch size"),
    "prompt_tokens": ("prompt_tokens_total", "Prompt tokens, cached ones included"),
    "cached_tokens": ("cached_tokens_total", "Prompt tokens that were not computed again"),
    "output_tokens": ("output_tokens_total", "Generated tokens"),
    "cancelled": ("cancelled_total", "Requests whose caller left"),
    "preempted": ("preempted_total", "Sequences that gave their place in memory to older ones and were computed anew"),
    "drafted_tokens": ("drafted_tokens_total", "Guessed tokens that were tried"),
    "accepted_tokens": ("accepted_tokens_total", "Guessed tokens that were right"),
}
_GAUGES = {
    "running": ("num_running", "Sequences in the batch"),
    "waiting": ("num_waiting", "Sequences in the queue"),
    "loaded_models": ("num_loaded", "Models in memory"),
    "kv_used_tokens": ("kv_used_tokens", "KV cache in use, in tokens"),
    "kv_retained_tokens": ("kv_retained_tokens", "KV cache of ended sequences, kept for prompts that begin alike"),
    "kv_capacity_tokens": ("kv_capacity_tokens", "KV cache in all, in tokens"),
    "max_batch_size": ("max_batch_size", "Largest batch since the engine started"),
}


class GenerationMetrics:
    """Histograms over whole generations, by the outcome; an Observer for the operations."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.first_event = Histogram(
            "hugging_llama_time_to_first_token_seconds", "Request to first event", buckets=_SECONDS, registry=registry
        )
        self.inter_event = Histogram(
            "hugging_llama_inter_token_seconds", "Between events", buckets=_FAST_SECONDS, registry=registry
        )
        self.queue = Histogram(
            "hugging_llama_queue_seconds", "Waiting for a place in the batch", buckets=_SECONDS, registry=registry
        )
        self.total = Histogram(
            "hugging_llama_generation_seconds", "Whole generations", ["outcome"], buckets=_SECONDS, registry=registry
        )
        self.tokens = Counter("hugging_llama_generated_tokens", "Tokens sent to callers", registry=registry)

    def observe(self, events: EventStream[GenerateEvent]) -> EventStream[GenerateEvent]:
        """The same stream, timed."""
        return ObservedStream(events, self)


class ObservedStream:
    """Times a stream's events; ends in one observation, whether it finishes, fails or is closed early."""

    def __init__(self, events: EventStream[GenerateEvent], metrics: GenerationMetrics) -> None:
        self._events = events
        self._metrics = metrics
        self._started = self._last = time.perf_counter()
        self._is_first = True
        self._is_open = True

    def __iter__(self) -> Iterator[GenerateEvent]:
        return self

    def __next__(self) -> GenerateEvent:
        try:
            event = next(self._events)
        except HuggingLlamaError as error:
            self._end(error.code)
            raise
        except StopIteration:
            self._end("closed")
            raise
        if isinstance(event, Progress):
            return event
        now = time.perf_counter()
        histogram = self._metrics.first_event if self._is_first else self._metrics.inter_event
        histogram.observe(now - self._last)
        self._last, self._is_first = now, False
        if isinstance(event, Finished):
            self._metrics.queue.observe(event.usage.queue_ns / 1e9)
            self._metrics.tokens.inc(event.usage.num_output_tokens)
            self._end(event.reason.value)
        return event

    def close(self) -> None:
        self._events.close()
        self._end("closed")

    def _end(self, outcome: str) -> None:
        if self._is_open:
            self._is_open = False
            self._metrics.total.labels(outcome).observe(time.perf_counter() - self._started)


class EngineCollector(Collector):
    """The engine's own figures, asked for when Prometheus asks; `up` tells whether it answered."""

    def __init__(self, engine: EngineClient, seen: Callable[[EngineStatus], None]) -> None:
        self._engine = engine
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """Figures of the engine, or `hugging_llama_engine_up 0` alone."""
        up = GaugeMetricFamily("hugging_llama_engine_up", "Whether the engine answers")
        try:
            status = self._engine.status(ENGINE_TIMEOUT_S)
        except EngineError:
            up.add_metric([], 0)
            yield up
            return
        self._seen(status)
        up.add_metric([], 1)
        yield up
        for name, (attribute, text) in _GAUGES.items():
            yield GaugeMetricFamily(f"hugging_llama_engine_{name}", text, value=getattr(status, attribute))
        for name, (attribute, text) in _COUNTERS.items():
            yield CounterMetricFamily(f"hugging_llama_engine_{name}", text, value=getattr(status, attribute))


def measure_http(app: Flask, registry: CollectorRegistry) -> Exporter:
    """Count and time every request of `app`, by route: by path, every odd path would become a series."""
    exporter: Exporter = PrometheusMetrics(
        app, path=None, group_by="url_rule", registry=registry, excluded_paths=["/metrics"]
    )
    return exporter


@blueprint.get("/metrics")
@documented(Answer(content_type="text/plain", about="Figures for Prometheus."), role="metrics")
def metrics() -> Response:
    """Everything in Prometheus' text format; in several workers the figures of all are added up."""
    engine_registry = CollectorRegistry()
    context = web_context()

    def remember(status: EngineStatus) -> None:
        context.device = status.device

    engine_registry.register(EngineCollector(app_context().engine, remember))
    workers, content_type = context.exporter.generate_metrics()
    return Response(workers + generate_latest(engine_registry).decode(), content_type=content_type)
