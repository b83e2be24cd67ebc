"""Our figures inside an application that has metrics of its own: in a registry apart, never the default one.

In several processes (prometheus_client's multi-process mode) all figures of a process share files whatever their
registry: there our page shows what is ours of them, and so may the application's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from hugging_llama.web.figures import Figures
from hugging_llama_config.metrics_files import shared_folder

_PREFIX = "hugging_llama_"


@dataclass(frozen=True, slots=True)
class MountedFigures:
    """Of all mounts of an application together: two that count the same thing in one process would overwrite each
    other in those files. An Exporter."""

    registry: CollectorRegistry
    figures: Figures

    @classmethod
    def new(cls) -> "MountedFigures":
        registry = CollectorRegistry()
        figures = Figures(registry, shared_folder())
        figures.workers.inc()
        return cls(registry, figures)

    def generate_metrics(self) -> tuple[str, str]:
        """The text and its content type."""
        registry = self.registry
        try:
            of_all = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        except ValueError:  # one process: there is no folder for such files
            pass
        else:
            registry = CollectorRegistry()
            registry.register(_Ours(of_all))
        return generate_latest(registry).decode(), CONTENT_TYPE_LATEST


class _Ours(Collector):
    def __init__(self, inner: MultiProcessCollector) -> None:
        self._inner = inner

    def collect(self) -> Iterator[Metric]:
        return (
            metric
            for metric in self._inner.collect()  # type: ignore[no-untyped-call]
            if metric.name.startswith(_PREFIX)
        )
