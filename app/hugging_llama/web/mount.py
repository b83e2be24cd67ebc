"""What one mount of ours needs in an application, and the blueprint for applications that exist already."""

import os
import threading
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flask import Blueprint, Flask, Response, request
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import Map, Rule

from hugging_llama.client.base import EngineClient
from hugging_llama.client.remote import RemoteEngine
from hugging_llama.dialects import caller
from hugging_llama.dialects.base import ACCESS_EXTENSION, EXTENSION, WATCH_EXTENSION, app_context
from hugging_llama.dialects.mounts import add_mount, mounted
from hugging_llama.dialects.request_facts import request_facts
from hugging_llama.dialects.request_id import name_in_answers
from hugging_llama.operations import residency
from hugging_llama.operations.audit_log import AuditLog
from hugging_llama.operations.context import AppContext
from hugging_llama.store.local import Store
from hugging_llama.store.responses import ResponseStore
from hugging_llama.web import access
from hugging_llama.web.blueprints import build
from hugging_llama.web.context import WEB_EXTENSION, Exporter, WebContext
from hugging_llama.web.disconnect import DisconnectWatch
from hugging_llama.web.engine_ledger import EngineLedger
from hugging_llama.web.errors import mark_entered
from hugging_llama.web.figures import Figures
from hugging_llama.web.measuring import request_meter, tracer_of
from hugging_llama.web.meter import RequestMeter
from hugging_llama.web.mounted_metrics import MountedFigures
from hugging_llama.web.observed import FigureObserver
from hugging_llama.web.routes import DIALECTS, select
from hugging_llama.web.unknown_paths import ROUTES_EXTENSION, methods_here
from hugging_llama.web.visitors import Authenticate
from hugging_llama_config import audit_file
from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.hardware import expected_device
from hugging_llama_config.home_format import HomeFormatError, read_home_format
from hugging_llama_config.metrics_files import shared_folder
from hugging_llama_config.settings import Settings

if TYPE_CHECKING:
    from hugging_llama.web.tracing import Tracer

_FIGURES_EXTENSION = "hugging_llama_figures"
_PREFIX_EXTENSION = "hugging_llama_prefix"
_METER_EXTENSION = "hugging_llama_meter"


def create_blueprint(
    settings: Settings | Mapping[str, Any] | None = None,
    *,
    url_prefix: str | None = None,
    engine: EngineClient | None = None,
    authenticate: Authenticate | None = None,
    dialects: Collection[str] = DIALECTS,
    without: Collection[str] = (),
    name: str = "hugging_llama",
) -> Blueprint:
    """Our endpoints as one blueprint, to be registered with an application of yours.

    `settings` are whole, or some by name that go before those of the environment and the settings file. `authenticate`
    says who sends a request, or refuses it; without it the file of keys does that the settings name, and without one
    everybody may do all. `dialects` are those that are wanted of `ollama`, `openai` and `anthropic`; `without` leaves
    out routes: by path, or the groups `manage`, `metrics`, `docs` and `health`. An application may have several
    blueprints, each with a `name` of its own.

    Nothing outside its own routes is touched, and nothing begins before the first request. Raises ConfigError if the
    settings can't be used, ValueError for unknown names.
    """
    if not isinstance(settings, Settings):
        settings = load_settings(settings)
    elif engine is None and not settings.run_dir:
        raise ConfigError("these settings name no run_dir; load_settings() fills in what is not given")
    doorkeeper: access.Doorkeeper | None = None
    if authenticate is not None:
        doorkeeper = access.HostDoorkeeper(run_dir=settings.run_dir, authenticate=authenticate)
    elif settings.keys_file:
        doorkeeper = access.Gatekeeper.of(settings)
    entrance = _Entrance(doorkeeper)
    blueprint = build(
        name, select(dialects, without), url_prefix=url_prefix, hooks=(entrance.enter,), answers_unknown_paths=True
    )
    blueprint.after_request(_measured)
    name_in_answers(blueprint)
    if doorkeeper is not None:
        blueprint.after_request(doorkeeper.mark)
    tracer = tracer_of(settings, own=False)
    blueprint.record(partial(_mount, settings=settings, engine=engine, doorkeeper=doorkeeper, tracer=tracer))
    return blueprint


def _mount(
    state: BlueprintSetupState,
    *,
    settings: Settings,
    engine: EngineClient | None,
    doorkeeper: access.Doorkeeper | None,
    tracer: "Tracer | None",
) -> None:
    app = cast(Flask, state.app)
    if _FIGURES_EXTENSION not in app.extensions:
        app.extensions[_FIGURES_EXTENSION] = MountedFigures.new()
    mounted_figures: MountedFigures = app.extensions[_FIGURES_EXTENSION]
    ending = install(
        app,
        f"{state.name_prefix}.{state.name}".lstrip("."),
        settings,
        engine=engine,
        figures=mounted_figures.figures,
        exporter=mounted_figures,
    )
    app.extensions[_METER_EXTENSION + ending] = request_meter(settings, mounted_figures.figures, tracer)
    if doorkeeper is not None:
        app.extensions[ACCESS_EXTENSION + ending] = doorkeeper
    app.extensions[_PREFIX_EXTENSION + ending] = _arguments(app, state)
    app.extensions[ROUTES_EXTENSION + ending] = []


def install(
    app: Flask,
    blueprint: str,
    settings: Settings,
    *,
    engine: EngineClient | None,
    figures: Figures,
    exporter: Exporter,
) -> str:
    """Put what requests to routes of this blueprint need into the application; what the names of its extensions end
    in. Raises ConfigError."""
    try:
        read_home_format(settings.home)
    except HomeFormatError as error:
        raise ConfigError(str(error)) from None
    context = AppContext(
        settings=settings,
        store=Store(settings),
        engine=engine or RemoteEngine(settings),
        observer=FigureObserver(figures),
        responses=ResponseStore.of(settings),
        caller=partial(access.caller, settings.trusted_proxies),
        audit=_audit_log(settings),
    )
    if settings.preload and isinstance(context.engine, RemoteEngine):
        # once for each engine: a worker that is replaced must not bring back what has been unloaded since
        context.engine.on_new_engine = partial(residency.preload, context)
    ending = add_mount(app, blueprint)
    app.extensions[EXTENSION + ending] = context
    app.extensions[WATCH_EXTENSION + ending] = DisconnectWatch(enabled=settings.watch_disconnect).watch
    folder = shared_folder()
    # mounts may have engines of their own
    ledger = EngineLedger(folder and folder / f"hugging_llama_engine{ending.replace('/', '_')}")
    device = expected_device(settings.device)
    app.extensions[WEB_EXTENSION + ending] = WebContext(exporter=exporter, device=device, ledger=ledger)
    return ending


class _Entrance:
    """What goes before every view of a mount, after the hooks of the application around it."""

    def __init__(self, doorkeeper: access.Doorkeeper | None) -> None:
        self._doorkeeper = doorkeeper
        self._tidied: set[tuple[int, str]] = set()

    def enter(self) -> Response | None:
        """The answer to a question that needs no view. Raises what refuses the caller."""
        meter: RequestMeter = mounted(_METER_EXTENSION)
        meter.begin()
        if request.method == "OPTIONS" and getattr(request.url_rule, "provide_automatic_options", False):
            # it tells nothing secret, and browsers ask without credentials before they call
            return methods_here()
        if self._doorkeeper is not None:
            self._doorkeeper.check()
        # what stands in the prefix is the application's, and no argument of a view
        for name in mounted(_PREFIX_EXTENSION):
            (request.view_args or {}).pop(name, None)
        self._tidy()
        mark_entered()
        return None

    def _tidy(self) -> None:
        """A server of our own does this once when it starts, see gunicorn's hooks; here nobody tells us."""
        context = app_context()
        once = (os.getpid(), context.settings.home)
        if once in self._tidied or not isinstance(context.engine, RemoteEngine):
            return
        self._tidied.add(once)
        for tidy in (context.store.tidy, context.responses.tidy):
            threading.Thread(target=tidy, daemon=True).start()


def _measured(response: Response) -> Response:
    """What the application around us has answered before we were asked is not ours to count."""
    if not request_facts().endpoint:
        return response
    meter: RequestMeter = mounted(_METER_EXTENSION)
    return meter.answer(response)


def _arguments(app: Flask, state: BlueprintSetupState) -> frozenset[str]:
    """The names that the prefix and the defaults of this registration hand to every view."""
    rule = Rule(f"/{(state.url_prefix or '').strip('/')}/", endpoint="prefix")
    Map([rule], converters=app.url_map.converters)
    return frozenset(rule.arguments) | frozenset(state.url_defaults)


def _audit_log(settings: Settings) -> AuditLog | None:
    """Raises ConfigError if the operator wants one and it can't be written."""
    if not settings.audit_log:
        return None
    log = AuditLog(settings.audit_log, partial(caller.actor, settings.trusted_proxies))
    try:
        log.check()
    except OSError as error:
        raise ConfigError(audit_file.problem_text(settings.audit_log, str(error.strerror))) from None
    return log
