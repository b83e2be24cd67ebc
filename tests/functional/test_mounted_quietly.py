"""An application that mounts us, and tests of it, find their process as it was before."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import atexit, builtins, gc, json, locale, logging, os, signal, socket, sys, threading, time, warnings
from flask import Flask
from prometheus_client import REGISTRY, Counter
Counter("theirs", "Theirs").inc()
# these keep house by themselves, in any application that imports them
import huggingface_hub, marshmallow, msgspec, prometheus_flask_exporter, psutil, requests, urllib3

def state():
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "signals": {str(n): str(signal.getsignal(n)) for n in signal.valid_signals()},
        "wake-up": signal.set_wakeup_fd(-1),
        "logging": [
            [name, logger.level, [str(h) for h in logger.handlers], logger.propagate, logger.disabled]
            for name, logger in sorted(logging.root.manager.loggerDict.items())
            if isinstance(logger, logging.Logger) and (logger.level or logger.handlers or not logger.propagate)
        ],
        "root": [logging.root.level, [str(h) for h in logging.root.handlers], str(logging.getLoggerClass())],
        "factory": [str(logging.getLogRecordFactory()), logging.raiseExceptions, logging.root.manager.disable],
        "registry": sorted(name for names in REGISTRY._collector_to_names.values() for name in names),
        "warnings": [str(each) for each in warnings.filters],
        "hooks": [str(f) for f in (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.displayhook)],
        "importers": [str(f) for f in (*sys.meta_path, *sys.path_hooks)],
        "path": list(sys.path),
        "streams": [id(f) for f in (sys.stdin, sys.stdout, sys.stderr)],
        "patched": [str(f) for f in (socket.socket, socket.create_connection, time.sleep, threading.Thread.start,
                    threading.Lock, os.fork, builtins.open, builtins.print, json.dumps, Flask.wsgi_app)],
        "builtins": sorted(vars(builtins)),
        "exits": atexit._ncallbacks(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "limits": [socket.getdefaulttimeout(), sys.getrecursionlimit(), sys.getswitchinterval(), gc.get_threshold()],
        "locale": locale.setlocale(locale.LC_ALL),
    }

def use():
    from hugging_llama import Visitor, create_blueprint
    from hugging_llama.testing import ScriptedEngine
    chat = {"model": "demo", "messages": [{"role": "user", "content": "x"}]}
    for _ in range(2):
        app = Flask("theirs")
        for name in ("a", "b"):
            blueprint = create_blueprint(engine=ScriptedEngine(), name=name, authenticate=Visitor)
            app.register_blueprint(blueprint, url_prefix="/" + name)
        client = app.test_client()
        for name in ("a", "b"):
            assert "Hello!" in client.post(f"/{name}/api/chat", json=chat).text
            for path in ("docs", "openapi.json", "health", "v1/models", "nothing"):
                client.get(f"/{name}/{path}").get_data()
    real = Flask("real")
    real.register_blueprint(create_blueprint(), url_prefix="/llm")  # nothing begins before it is asked for something

before = state()
use()
gc.collect()
after = state()
print(json.dumps({name: [before[name], after[name]] for name in before if before[name] != after[name]}))
"""


def test_nothing_of_the_process_is_changed(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HUGGING_LLAMA_RUN_DIR": str(tmp_path / "run")}
    environ |= {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], env=environ, cwd=tmp_path, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}
    assert list(tmp_path.iterdir()) == [], "nothing is written either"
