"""The engine's own figures, asked for when Prometheus asks."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from hugging_llama.client.base import EngineClient
from hugging_llama.errors import EngineError
from hugging_llama.neutral.events import LOAD_SECONDS, EngineStatus
from hugging_llama.web.bounded_names import shown
from hugging_llama.web.engine_ledger import Counts, EngineLedger

TIMEOUT_S = 0.5
_PREFIX = "hugging_llama_engine_"
_COUNTERS = {
    "steps_total": ("steps_total", "Forward passes"),
    "step_sequences_total": ("step_sequences_total", "Sequences over all forward passes"),
    "prompt_tokens_total": ("prompt_tokens_total", "Prompt tokens of all that began, cached ones included"),
    "cached_tokens_total": ("cached_tokens_total", "Prompt tokens that were not computed again"),
    "output_tokens_total": ("output_tokens_total", "Generated tokens, those that nobody waited for included"),
    "cancelled_total": ("cancelled_total", "Requests whose caller left"),
    "preempted_total": ("preempted_total", "Sequences that gave their place in memory to older ones"),
    "drafted_tokens_total": ("drafted_tokens_total", "Guessed tokens that were tried"),
    "accepted_tokens_total": ("accepted_tokens_total", "Guessed tokens that were right"),
    "failed_loads_total": ("failed_loads_total", "Loads that failed"),
    "unloaded_total": ("unloaded_models_total", "Models that have left memory"),
    "evicted_total": ("evicted_models_total", "Models that left memory to make room for others"),
}
"""By the field of EngineStatus."""
_GAUGES = {
    "num_running": ("running", "Sequences in the batch"),
    "num_waiting": ("waiting", "Sequences in the queue"),
    "num_loaded": ("loaded_models", "Models in memory"),
    "kv_used_tokens": ("kv_used_tokens", "KV cache in use, in tokens"),
    "kv_retained_tokens": ("kv_retained_tokens", "KV cache of ended sequences, kept for prompts that begin alike"),
    "kv_capacity_tokens": ("kv_capacity_tokens", "KV cache in all, in tokens"),
    "max_batch_size": ("max_batch_size", "Largest batch since the engine started"),
    "started_at_s": ("start_time_seconds", "When the engine began, in seconds since 1970"),
}


class EngineCollector(Collector):
    """`up` tells whether the engine answered; then come its figures. `seen` is told what it said."""

    def __init__(
        self, engine: EngineClient, ledger: EngineLedger, max_queue: int, seen: Callable[[EngineStatus], None]
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._max_queue = max_queue
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """Figures of the engine, or `hugging_llama_engine_up 0` alone."""
        up = GaugeMetricFamily(_PREFIX + "up", "Whether the engine answers")
        try:
            status = self._engine.status(TIMEOUT_S)
            rows = self._engine.loaded()
        except EngineError:
            up.add_metric([], 0)
            yield up
            return
        self._seen(status)
        up.add_metric([], 1)
        yield up
        for attribute, (name, text) in _GAUGES.items():
            yield GaugeMetricFamily(_PREFIX + name, text, value=getattr(status, attribute))
        yield GaugeMetricFamily(_PREFIX + "max_queue", "Sequences that may wait", value=self._max_queue)
        sizes: dict[str, int] = {}
        for row in rows:
            sizes[shown(row.name)] = sizes.get(shown(row.name), 0) + row.size_bytes
        models = GaugeMetricFamily(_PREFIX + "model_bytes", "What each model takes in memory", labels=["model"])
        for name, size in sizes.items():
            models.add_metric([name], size)
        yield models
        counts, num_engines = self._ledger.total(status)
        yield CounterMetricFamily(_PREFIX + "starts_total", "Engines that have been seen", value=num_engines)
        yield from _counted(counts)


def _counted(counts: Counts) -> Iterator[Metric]:
    for attribute, (name, text) in _COUNTERS.items():
        yield CounterMetricFamily(_PREFIX + name, text, value=counts[attribute][0])
    sizes = counts["batch_size_counts"]
    yield _histogram(
        "batch_size", "Sequences of each forward pass", [2**i for i in range(len(sizes) - 1)], sizes,
        counts["step_sequences_total"][0],
    )  # fmt: skip
    loads = counts["load_counts"]
    yield _histogram(
        "load_seconds", "Loads of models", LOAD_SECONDS[: max(0, len(loads) - 1)], loads,
        counts["load_seconds_total"][0],
    )  # fmt: skip


def _histogram(
    name: str, text: str, bounds: Sequence[float], counts: Sequence[float], total: float
) -> HistogramMetricFamily:
    """`counts` has one number more than `bounds`, for what is above all of them; without any it is an empty one."""
    buckets, so_far = [], 0.0
    for bound, count in zip([*map(str, map(float, bounds)), "+Inf"], counts or [0.0], strict=True):
        so_far += count
        buckets.append((bound, so_far))
    return HistogramMetricFamily(_PREFIX + name, text, buckets=buckets, sum_value=total)
