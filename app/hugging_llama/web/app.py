"""The application factory."""

import threading

from flask import Flask
from prometheus_client import CollectorRegistry

from hugging_llama.client.base import EngineClient
from hugging_llama.client.remote import RemoteEngine
from hugging_llama.dialects.base import ACCESS_EXTENSION, EXTENSION
from hugging_llama.dialects.request_id import name_in_answers
from hugging_llama.operations import residency
from hugging_llama.operations.context import AppContext
from hugging_llama.web import access, metrics
from hugging_llama.web.blueprints import build
from hugging_llama.web.errors import mark_entered, register_route_errors
from hugging_llama.web.figures import Figures
from hugging_llama.web.measuring import request_meter, tracer_of
from hugging_llama.web.mount import install
from hugging_llama.web.origins import Gate, OriginPolicy
from hugging_llama.web.routes import Selection
from hugging_llama_config.env import load_settings
from hugging_llama_config.metrics_files import shared_folder
from hugging_llama_config.settings import Settings

TRACER_EXTENSION = "hugging_llama_tracer"
_NAME = "hugging_llama"


def create_app(settings: Settings | None = None, *, engine: EngineClient | None = None) -> Flask:
    """A Flask application that is Hugging Llama and nothing else. Raises ConfigError if the settings can't be used.

    Without `settings` they come from the environment and the settings file. Without `engine` the shared engine
    process is used: started on the first request unless gunicorn's hook has done so. The models that the settings
    name under `preload` begin to load at once.
    """
    app = Flask(_NAME, static_folder=None)
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    settings = settings or load_settings()
    registry = CollectorRegistry()
    exporter = metrics.measure_http(app, registry)
    figures = Figures(registry, shared_folder())
    figures.workers.inc()
    tracer = tracer_of(settings, own=True)
    app.extensions[TRACER_EXTENSION] = tracer
    request_meter(settings, figures, tracer).install(app)
    install(app, _NAME, settings, engine=engine, figures=figures, exporter=exporter)
    blueprint = build(_NAME, Selection(), hooks=(mark_entered,))
    gatekeeper = access.Gatekeeper.of(settings)
    gatekeeper.install(blueprint)
    app.extensions[ACCESS_EXTENSION] = gatekeeper
    app.register_blueprint(blueprint)
    register_route_errors(app)
    name_in_answers(app)
    Gate(OriginPolicy(settings.origins)).install(app)
    context: AppContext = app.extensions[EXTENSION]
    if context.settings.preload:
        _begin_preload(context)
    return app


def _begin_preload(context: AppContext) -> None:
    if isinstance(context.engine, RemoteEngine):
        context.engine.start()
    else:
        threading.Thread(target=residency.preload, args=(context,), daemon=True).start()
