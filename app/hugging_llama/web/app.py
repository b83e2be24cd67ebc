"""The application factory, and the blueprint for applications that exist already."""

import threading
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, cast

from flask import Blueprint, Flask
from flask.blueprints import BlueprintSetupState
from prometheus_client import CollectorRegistry

from hugging_llama.client.base import EngineClient
from hugging_llama.client.remote import RemoteEngine
from hugging_llama.dialects import caller
from hugging_llama.dialects.anthropic import blueprints as anthropic_blueprints
from hugging_llama.dialects.anthropic import errors as anthropic_errors
from hugging_llama.dialects.base import ACCESS_EXTENSION, EXTENSION, WATCH_EXTENSION
from hugging_llama.dialects.ollama import blueprints as ollama_blueprints
from hugging_llama.dialects.ollama import errors as ollama_errors
from hugging_llama.dialects.openai import blueprints as openai_blueprints
from hugging_llama.dialects.openai import errors as openai_errors
from hugging_llama.dialects.request_id import name_in_answers
from hugging_llama.operations import residency
from hugging_llama.operations.audit_log import AuditLog
from hugging_llama.operations.context import AppContext
from hugging_llama.store.local import Store
from hugging_llama.store.responses import ResponseStore
from hugging_llama.web import access, docs, health, metrics
from hugging_llama.web.access_log import log_request
from hugging_llama.web.context import WEB_EXTENSION, Exporter, WebContext
from hugging_llama.web.disconnect import DisconnectWatch
from hugging_llama.web.engine_ledger import EngineLedger
from hugging_llama.web.errors import ErrorPages, RenderError, register_route_errors
from hugging_llama.web.figures import Figures
from hugging_llama.web.keys import KeyRing
from hugging_llama.web.meter import RequestMeter
from hugging_llama.web.observed import FigureObserver
from hugging_llama.web.origins import Gate, OriginPolicy
from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.hardware import expected_device
from hugging_llama_config.home_format import HomeFormatError, read_home_format
from hugging_llama_config.metrics_files import shared_folder
from hugging_llama_config.settings import Settings

TRACER_EXTENSION = "hugging_llama_tracer"

if TYPE_CHECKING:
    from hugging_llama.web.tracing import Tracer


def create_app(settings: Settings | None = None, *, engine: EngineClient | None = None) -> Flask:
    """A Flask application that is Hugging Llama and nothing else. Raises ConfigError if the settings can't be used.

    Without `settings` they come from the environment and the settings file. Without `engine` the shared engine
    process is used: started on the first request unless gunicorn's hook has done so. The models that the settings
    name under `preload` begin to load at once.
    """
    app = Flask("hugging_llama", static_folder=None)
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    settings = settings or load_settings()
    registry = CollectorRegistry()
    exporter = metrics.measure_http(app, registry)
    figures = Figures(registry, shared_folder())
    tracer = _tracer(own=True) if settings.tracing else None
    app.extensions[TRACER_EXTENSION] = tracer
    _meter(settings, figures, tracer).install(app)
    _install(app, settings, engine, figures, exporter)
    blueprint = _own_blueprint("hugging_llama")
    gatekeeper = access.Gatekeeper(KeyRing(settings.keys_file), settings.run_dir)
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


def create_blueprint(
    settings: Settings | None = None, *, engine: EngineClient | None = None, name: str = "hugging_llama"
) -> Blueprint:
    """All endpoints as one blueprint, to be registered with an application of yours, under any `url_prefix`.

    It touches nothing outside its own routes: error pages and HTTP metrics of the application stay as they are.
    """
    settings = settings or load_settings()
    blueprint = _own_blueprint(name)
    registry = CollectorRegistry()
    figures = Figures(registry, shared_folder())
    _meter(settings, figures, _tracer(own=False) if settings.tracing else None).install(blueprint)
    name_in_answers(blueprint)

    def install(state: BlueprintSetupState) -> None:
        app = cast(Flask, state.app)
        _install(app, settings, engine, figures, metrics.unattached_exporter(registry))
        # a server of our own does this once, see gunicorn's hooks; here nobody tells us when one starts
        context: AppContext = app.extensions[EXTENSION]
        for tidy in (context.store.tidy, context.responses.tidy):
            threading.Thread(target=tidy, daemon=True).start()

    blueprint.record_once(install)
    return blueprint


def _audit_log(settings: Settings) -> AuditLog | None:
    """Raises ConfigError if the operator wants one and it can't be written."""
    if not settings.audit_log:
        return None
    log = AuditLog(settings.audit_log, partial(caller.actor, settings.trusted_proxies))
    try:
        log.check()
    except OSError as error:
        raise ConfigError(f"HUGGING_LLAMA_AUDIT_LOG: {settings.audit_log} can't be written: {error.strerror}") from None
    return log


def _begin_preload(context: AppContext) -> None:
    if isinstance(context.engine, RemoteEngine):
        context.engine.start()
    else:
        threading.Thread(target=residency.preload, args=(context,), daemon=True).start()


def _dialect(name: str, children: Iterable[Blueprint], render_error: RenderError) -> Blueprint:
    blueprint = Blueprint(name, __name__)
    for child in children:
        blueprint.register_blueprint(child)
    ErrorPages(render_error).register(blueprint)
    return blueprint


def _meter(settings: Settings, figures: Figures, tracer: "Tracer | None") -> RequestMeter:
    end = [log_request, figures.end] if settings.access_log else [figures.end]
    if tracer is None:
        return RequestMeter([figures.begin], end)
    return RequestMeter([figures.begin, tracer.begin], [tracer.end, *end], [tracer.answered])


def _tracer(*, own: bool) -> "Tracer":
    """What it needs is imported where it is wanted, and nowhere else."""
    try:
        from hugging_llama.web.tracing import Tracer
    except ImportError as error:
        raise ConfigError(
            f"HUGGING_LLAMA_TRACING: {error.name} is not installed: pip install 'hugging-llama[otel]'"
        ) from None
    return Tracer(own=own)


def _own_blueprint(name: str) -> Blueprint:
    blueprint = Blueprint(name, __name__)
    for child in (*ollama_blueprints.BLUEPRINTS, health.blueprint, metrics.blueprint, docs.blueprint):
        blueprint.register_blueprint(child)
    ErrorPages(ollama_errors.error_response).register(blueprint)
    blueprint.register_blueprint(_dialect("openai", openai_blueprints.BLUEPRINTS, openai_errors.error_response))
    anthropic = _dialect("anthropic", anthropic_blueprints.BLUEPRINTS, anthropic_errors.error_response)
    name_in_answers(anthropic, anthropic_errors.REQUEST_ID_HEADER)
    blueprint.register_blueprint(anthropic)
    return blueprint


def _install(
    app: Flask,
    settings: Settings,
    engine: EngineClient | None,
    figures: Figures,
    exporter: Exporter,
) -> None:
    if EXTENSION in app.extensions:
        raise RuntimeError("this application has Hugging Llama already; one application can have it once")
    try:
        read_home_format(settings.home)
    except HomeFormatError as error:
        raise ConfigError(str(error)) from None
    watch = DisconnectWatch(enabled=settings.watch_disconnect)
    context = AppContext(
        settings=settings,
        store=Store(settings),
        engine=engine or RemoteEngine(settings),
        observer=FigureObserver(figures),
        responses=ResponseStore.of(settings),
        caller=access.caller,
        audit=_audit_log(settings),
    )
    if settings.preload and isinstance(context.engine, RemoteEngine):
        # once for each engine: a worker that is replaced must not bring back what has been unloaded since
        context.engine.on_new_engine = partial(residency.preload, context)
    app.extensions[EXTENSION] = context
    app.extensions[WATCH_EXTENSION] = watch.watch
    device = expected_device(settings.device)
    folder = shared_folder()
    ledger = EngineLedger(folder and folder / "hugging_llama_engine")
    app.extensions[WEB_EXTENSION] = WebContext(exporter=exporter, device=device, ledger=ledger)
    figures.workers.inc()
