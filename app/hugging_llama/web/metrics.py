"""GET /metrics: HTTP figures by prometheus-flask-exporter, our own of requests and streams, and the engine's.

The exporter's durations end when a streamed response begins, so whole requests are measured by our own.
"""

from flask import Blueprint, Flask, Response, request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_flask_exporter import PrometheusMetrics

from hugging_llama.dialects.base import app_context
from hugging_llama.dialects.documented import Answer, documented
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.events import EngineStatus
from hugging_llama.web.context import Exporter, web_context
from hugging_llama.web.engine_figures import EngineCollector
from hugging_llama.web.unknown_paths import METHODS
from hugging_llama_config.metrics_files import shared_folder

blueprint = Blueprint("metrics", __name__)

_FOLDER_GONE = "the folder of the web workers' figures was deleted; a reload of the server (HUP) begins a new one"
_BUCKETS = (0.01, 0.1, 1.0, 10.0)


def measure_http(app: Flask, registry: CollectorRegistry) -> Exporter:
    """Count and time every request of `app`, by route: by path, every odd path would become a series, and so would
    every method that somebody makes up."""

    @app.before_request
    def know_the_method() -> None:
        if request.method not in METHODS:
            request.prom_do_not_track = True  # type: ignore[attr-defined]

    exporter: Exporter = PrometheusMetrics(
        app, path=None, group_by="url_rule", registry=registry, excluded_paths=["/metrics"], buckets=_BUCKETS
    )
    return exporter


@blueprint.get("/metrics")
@documented(Answer(content_type="text/plain", about="Figures for Prometheus."), role="metrics")
def metrics() -> Response:
    """Everything in Prometheus' text format; in several workers the figures of all are added up."""
    engine_registry = CollectorRegistry()
    context, ours = web_context(), app_context()

    def remember(status: EngineStatus) -> None:
        context.device = status.device

    engine_registry.register(EngineCollector(ours.engine, context.ledger, ours.settings.max_queue, remember))
    try:
        workers, content_type = context.exporter.generate_metrics()
    except ValueError as error:
        if (folder := shared_folder()) is None or folder.is_dir():
            raise
        raise HuggingLlamaError(_FOLDER_GONE) from error
    return Response(workers + generate_latest(engine_registry).decode(), content_type=content_type)
