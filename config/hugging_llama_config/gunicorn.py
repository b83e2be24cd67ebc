"""`gunicorn -c python:hugging_llama_config.gunicorn wsgi:app`: the settings, and the hooks that own the engine.

Nothing is patched here and nothing heavy is imported: what the master imports, every gevent worker gets unpatched.
What must survive a reload lives on the arbiter (`server`), never in a global of this file. The engine belongs to the
master by a life line, a pipe whose writing end only the master holds: however the master ends, the kernel closes it,
and the supervisor and the engine end too. The workers keep the reading end, so that one of them can replace a killed
supervisor under the same life line.
"""

import gc
import importlib
import logging
import mmap
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hugging_llama_config import addresses, metrics_files, successors, systemd
from hugging_llama_config.audit_file import AuditFileError, check_audit_file
from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.exposure import ExposureError, check_exposure
from hugging_llama_config.home_format import HomeFormatError, read_home_format
from hugging_llama_config.launch import LaunchError, is_supervised, prepare_run_dir, socket_path, start_supervisor
from hugging_llama_config.log_levels import watch_levels
from hugging_llama_config.logging import Redaction, configure_own_logging, logging_table
from hugging_llama_config.settings import Settings

try:
    _settings = load_settings()
except ConfigError as error:
    # a line and status 1; gunicorn would write a traceback of any other exception
    raise SystemExit(f"Error: {error}") from None

_address = f"[{_settings.host}]" if ":" in _settings.host else _settings.host
bind = f"{_address}:{_settings.port}"
workers = _settings.workers
worker_class = "hugging_llama_config.gunicorn_worker.JsonErrorWorker"
worker_connections = _settings.worker_connections
loglevel = _settings.log_level
# gunicorn lays this over a table of its own, whose root has a handler that is gone then. Never left out: a reload keeps
# what is not set anew
logconfig_dict = (
    logging_table(_settings.log_level, "web", "json", "gunicorn.error") | {"root": {"handlers": []}}
    if _settings.log_format == "json"
    else {}
)
# in place of that of an earlier load of this file
logging.getLogger("gunicorn.error").filters[:] = [Redaction()]
# there is nothing heavy to share, and what is imported before gevent patches the worker blocks its hub
preload_app = False
# the heartbeat of a worker's hub, not a limit on requests
timeout = 60
graceful_timeout = max(1, round(_settings.graceful_timeout_s))
# also the time that a client has for a request's line and headers, all in all
keepalive = 5
# what is named here holds whatever gunicorn's own defaults become; browsers send to localhost the cookies of all that
# runs there. The worker bounds all headers together.
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 64 * 1024
# X-Forwarded-* of others is no more than text; in place of gunicorn's own default, which trusts the whole machine, and
# of its variable FORWARDED_ALLOW_IPS
forwarded_allow_ips = ",".join(_settings.trusted_proxies)
# peers of a Unix socket have no address, and gunicorn believes them all: without a trusted proxy there are no such
# headers
forwarder_headers = "SCRIPT_NAME,PATH_INFO" if _settings.trusted_proxies else ""
_secure = {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}
secure_scheme_headers = _secure if _settings.trusted_proxies else {}
# counters of dead workers stay on disk, so workers are not replaced without need
max_requests = 0
# its server thread lives in the master, which forks
control_socket_disable = True

# read before gunicorn installs its own
_started_with_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
_DRAIN_POLL_S = 0.25
_DRAIN_MARGIN_S = 2.0
_ENGINE_STOP_TIMEOUT_S = 4.0
_METRICS_VARIABLE = metrics_files.FOLDER_VARIABLE


@dataclass(slots=True)
class LifeLine:
    """An engine's hold on this master. A retired one is let go when the last worker that may use it is gone."""

    settings: Settings
    reader: int
    writer: int
    retired_at_age: int | None = None

    def let_go(self) -> None:
        os.close(self.writer)
        os.close(self.reader)


@dataclass(slots=True)
class MasterState:
    """What the hooks keep between calls; `server.hugging_llama`.

    `ends_with_terminal`: started by hand, without nohup. `closed` is one byte that all workers share with the master, 1
    as soon as one of them has seen keys.
    """

    metrics_dir: Path
    ends_with_terminal: bool
    closed: mmap.mmap
    life_lines: list[LifeLine] = field(default_factory=list)


def on_starting(server: Any) -> None:
    """Before the master binds: an empty directory for the workers' metrics."""
    try:
        prepare_run_dir(_settings)
        socket_path(_settings)
        read_home_format(_settings.home)
        # what gunicorn was told to bind, or was given, which may be another address than that of the settings
        given = systemd.inherited_hosts()
        has_keys = check_exposure(_settings, addresses.told_hosts(server) if given is None else given)
        check_audit_file(_settings.audit_log)
    except (LaunchError, HomeFormatError, ExposureError, AuditFileError) as error:
        raise SystemExit(f"Error: {error}") from None
    run_dir = Path(_settings.run_dir)
    for left in run_dir.glob("metrics-*"):
        if not Path(f"/proc/{left.name.removeprefix('metrics-')}").exists():
            shutil.rmtree(left, ignore_errors=True)
    metrics_dir = run_dir / f"metrics-{os.getpid()}"
    shutil.rmtree(metrics_dir, ignore_errors=True)
    metrics_dir.mkdir(mode=0o700)
    os.environ[_METRICS_VARIABLE] = str(metrics_dir)
    closed = mmap.mmap(-1, 1)
    closed[0] = has_keys
    by_hand = not _started_with_nohup and _has_terminal()
    server.hugging_llama = MasterState(metrics_dir, ends_with_terminal=by_hand, closed=closed)


def when_ready(server: Any) -> None:
    """After the bind, as a master that can't bind must not leave an engine; before the first worker is forked."""
    _start_engine(server)
    server.reload = partial(_reload_if_possible, server, partial(successors.reload, server, server.reload))
    server.wait_for_signals = partial(successors.wait_for_signals, server.wait_for_signals)
    server.stop = partial(_stop, server.stop)
    if watchdog := systemd.watchdog():
        # the first is called in each turn of the master's loop, the second while a reload or the end waits for workers
        for name in ("manage_workers", "reap_workers"):
            setattr(server, name, partial(_watched, watchdog, getattr(server, name)))


def _watched(watchdog: systemd.Watchdog, work: Callable[[], None]) -> None:
    """The master ends workers that hang, and the supervisor an engine that does; only the master has nobody else."""
    watchdog.beat()
    work()


def _stop(stop: Callable[[bool], None], graceful: bool = True) -> None:
    systemd.notify("STOPPING=1")
    stop(graceful)


def _reload_if_possible(server: Any, reload: Callable[[], None]) -> None:
    """No hook can refuse a reload, and workers that can't read their settings would end the whole server.

    HUP also comes when the terminal is closed from which the server was started: then it ends.
    """
    if server.hugging_llama.ends_with_terminal and not _has_terminal():
        os.kill(os.getpid(), signal.SIGTERM)
        return
    closed = server.hugging_llama.closed
    try:
        settings = load_settings()
        prepare_run_dir(settings)
        socket_path(settings)
        read_home_format(settings.home)
        # it binds anew, unless it was told on its own command line where, or given sockets by systemd
        binds_anew = server.cfg.bind == [bind] and not server.systemd
        hosts = [settings.host] if binds_anew else addresses.listening_hosts(server)
        # workers of before may still know keys whose file is gone; those that come after would let nobody in
        has_keys = check_exposure(settings, hosts, was_closed=bool(closed[0]))
        check_audit_file(settings.audit_log)
        if binds_anew:
            addresses.check_address(settings, server)
        # in place, as gunicorn imports it once only and would go on with the values from the start
        importlib.reload(sys.modules[__name__])
        if server.systemd:
            # for another address gunicorn would close the sockets that it was given
            globals()["bind"] = server.cfg.bind
    except (ConfigError, LaunchError, HomeFormatError, ExposureError, AuditFileError, OSError, SystemExit) as error:
        server.log.error("not reloaded: %s", error)
        systemd.notify(f"STATUS=not reloaded: {error}")
        return
    closed[0] |= has_keys
    systemd.notify_reloading()
    _drop_foreign_handlers(server.log.error_log)
    try:
        reload()
    except successors.NoSuccessorsError as error:
        server.log.error("not reloaded: %s; those of before go on", error)
        systemd.notify(f"READY=1\nSTATUS=not reloaded: {error}")
        return
    systemd.notify("READY=1\nSTATUS=")


def _drop_foreign_handlers(logger: logging.Logger) -> None:
    """gunicorn sets its own handler anew in a reload, and leaves the one of JSON beside it."""
    for handler in [each for each in logger.handlers if not getattr(each, "_gunicorn", False)]:
        logger.removeHandler(handler)


def on_reload(server: Any) -> None:
    """HUP keeps the engine, unless its settings changed: then the new workers get a new one."""
    current = server.hugging_llama.life_lines[-1]
    if socket_path(_settings) == socket_path(current.settings):
        return
    server.log.info("settings of the engine changed: the next workers get a new one")
    current.retired_at_age = server.worker_age
    _start_engine(server)


def pre_fork(server: Any, worker: Any) -> None:
    """In the master."""
    successors.announce(worker)


def post_fork(server: Any, worker: Any) -> None:
    """In the worker: it must not hold the life line of an engine that belongs to the master."""
    for life_line in server.hugging_llama.life_lines:
        os.close(life_line.writer)
    # until the worker has patched itself and set its own, the handlers of the master would swallow what ends it: a
    # reload in this time would wait for it in vain
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, lambda signum, frame: os._exit(0))
    if not metrics_files.reserve(server.hugging_llama.metrics_dir, os.getpid()):
        server.log.warning("there is no space for the metrics of this worker: they are not part of the sum")
        os.environ.pop(_METRICS_VARIABLE, None)
    worker.hugging_llama_life_line = server.hugging_llama.life_lines[-1].reader
    worker.hugging_llama_closed = server.hugging_llama.closed


def post_worker_init(worker: Any) -> None:
    """In the worker, patched and with the app loaded: watch for its end; in the first one, tidy up."""
    successors.loaded(worker)
    for access in _of_mounts(worker, "hugging_llama_access"):
        if hasattr(access, "ring"):  # an application's own hook has no keys
            access.ring.share(worker.hugging_llama_closed)
    contexts = [c for c in _of_mounts(worker, "hugging_llama") if hasattr(getattr(c, "engine", None), "start_drain")]
    if not contexts:
        worker.log.warning("the application has no Hugging Llama engine: its streams are not drained")
        return
    settings = contexts[0].engine.settings
    configure_own_logging(settings.log_level, "web", settings.log_format)
    watch_levels(settings.run_dir, settings.log_levels)
    for context in contexts:
        context.engine.life_line = worker.hugging_llama_life_line
        for kept in ("store", "responses") if worker.age == 1 else ():  # the first one of this server, and never again
            if (store := getattr(context, kept, None)) is not None:
                threading.Thread(target=store.tidy, daemon=True).start()
    # TERM runs no hook in a worker, so the flag that it clears is watched: by a greenlet, as gevent has patched by now
    threading.Thread(target=_drain_when_stopped, args=(worker, contexts), daemon=True).start()
    # what is there now stays: without it in each full collection, all streams would stop for some 50 ms
    gc.collect()
    gc.freeze()


def child_exit(server: Any, worker: Any) -> None:
    """In the master: forget the live gauges of a worker that is gone, and an engine that only it still used."""
    state: MasterState = server.hugging_llama
    # prometheus_client's own function does this too; importing it here would give every later worker its locks
    for path in state.metrics_dir.glob(f"gauge_live*_{worker.pid}.db"):
        path.unlink(missing_ok=True)
    metrics_files.shrink(state.metrics_dir, worker.pid)
    oldest = min((other.age for other in server.WORKERS.values()), default=server.worker_age + 1)
    for life_line in [line for line in state.life_lines if _is_unused(line, oldest)]:
        state.life_lines.remove(life_line)
        life_line.let_go()


def on_exit(server: Any) -> None:
    """In the master, after its workers: end the engine and wait for it, so that a restart finds its place free."""
    state: MasterState | None = getattr(server, "hugging_llama", None)
    if state is None:
        return
    life_lines, state.life_lines = state.life_lines, []
    for life_line in life_lines:
        life_line.let_go()
    deadline = time.monotonic() + _ENGINE_STOP_TIMEOUT_S
    while any(is_supervised(line.settings) for line in life_lines) and time.monotonic() < deadline:
        time.sleep(0.02)
    shutil.rmtree(state.metrics_dir, ignore_errors=True)


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _start_engine(server: Any) -> None:
    reader, writer = os.pipe()
    server.hugging_llama.life_lines.append(LifeLine(_settings, reader, writer))
    if start_supervisor(_settings, reader):
        server.log.info("the engine starts; its socket will be %s", socket_path(_settings))
    else:
        server.log.info("an engine with these settings runs already: it is shared")


def _is_unused(life_line: LifeLine, oldest_worker_age: int) -> bool:
    return life_line.retired_at_age is not None and oldest_worker_age > life_line.retired_at_age


def _of_mounts(worker: Any, name: str) -> list[Any]:
    """What each mount of our app has under this name; this file also serves apps that mount nothing of ours."""
    extensions = getattr(worker.wsgi, "extensions", {})
    endings = extensions.get("hugging_llama_mounts", {"": ""}).values()
    return [extensions[name + ending] for ending in endings if name + ending in extensions]


def _drain_when_stopped(worker: Any, contexts: Sequence[Any]) -> None:
    """A greenlet of the worker. Streams that would outlive the worker get a last object instead of a cut."""
    while worker.alive:
        time.sleep(_DRAIN_POLL_S)
    graceful_s = worker.cfg.graceful_timeout
    deadline = time.monotonic() + max(graceful_s / 2, graceful_s - _DRAIN_MARGIN_S)
    for context in contexts:
        context.engine.start_drain(deadline)
        if (store := getattr(context, "store", None)) is not None:
            # a transfer looks once a second
            store.pull_slots.ends_at = deadline - min(1.0, graceful_s / 4)
    logging.getLogger("hugging_llama").info("worker %d drains", worker.pid)
