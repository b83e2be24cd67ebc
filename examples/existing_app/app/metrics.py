"""Figures for Prometheus, in its default registry."""

import time

from flask import Blueprint, Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest

blueprint = Blueprint("metrics", __name__)

REQUESTS = Counter("desk_requests", "Requests", ["endpoint", "status"])
SECONDS = Histogram("desk_request_seconds", "Time until an answer begins", ["endpoint"])


def init_app(app: Flask) -> None:
    app.before_request(start)
    app.after_request(count)
    app.register_blueprint(blueprint)


def start() -> None:
    g.started_at = time.perf_counter()


def count(response: Response) -> Response:
    endpoint = request.endpoint or "none"
    REQUESTS.labels(endpoint, response.status_code).inc()
    SECONDS.labels(endpoint).observe(time.perf_counter() - g.started_at)
    return response


@blueprint.get("/metrics")
def page() -> Response:
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)
