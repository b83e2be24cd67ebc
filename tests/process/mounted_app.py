"""An application with our blueprint over scripted engines, for any WSGI or ASGI server."""

import os
from pathlib import Path

from flask import Flask, Response, abort, request
from prometheus_client import Counter, generate_latest

from hugging_llama import Visitor, create_blueprint
from hugging_llama_config import launch
from hugging_llama_config.interpreter import own_python

launch.ENGINE_COMMAND = (own_python(), str(Path(__file__).with_name("scripted_engine.py")))
launch.LINGER_S = float(os.environ.get("TEST_LINGER_S", "30"))

app = Flask(__name__)
hits = Counter("their_hits", "Requests")
for name in ("llm", "second"):
    blueprint = create_blueprint(authenticate=lambda: Visitor(roles=("admin",)), name=name)
    app.register_blueprint(blueprint, url_prefix=f"/{name}")


@app.before_request
def count() -> None:
    hits.inc()
    if "banned" in request.args:
        abort(403)


@app.errorhandler(Exception)
def failed(error: Exception) -> tuple[str, int]:
    return "their error", 500


@app.get("/")
def home() -> Response:
    return Response(generate_latest(), mimetype="text/plain")


def asgi_app() -> object:
    """The same for an ASGI server."""
    from a2wsgi import WSGIMiddleware  # type: ignore[import-not-found]

    return WSGIMiddleware(app)
