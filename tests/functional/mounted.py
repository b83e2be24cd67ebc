"""An application that was there before us, with opinions of its own about everything."""

from typing import Any

from flask import Flask, Response, abort, g, jsonify, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException

from hugging_llama import create_blueprint
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.settings import Settings

MESSAGES = [{"role": "user", "content": "Hello"}]
ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ollama": ("/api/chat", {"model": "demo", "messages": MESSAGES, "stream": False}),
    "openai": ("/v1/chat/completions", {"model": "demo", "messages": MESSAGES}),
    "anthropic": ("/v1/messages", {"model": "demo", "messages": MESSAGES, "max_tokens": 9}),
}


class DeniedError(Exception):
    """Raised by the application in front of all views."""


class WrappingProvider(DefaultJSONProvider):
    """The application's idea of JSON."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return super().dumps({"data": obj}, **kwargs)


def host() -> Flask:
    """Error pages for everything, hooks in front of and behind everything."""
    app = Flask("theirs")
    app.json = WrappingProvider(app)
    for status in (400, 401, 403, 404, 405, 413, 429, 500):
        app.register_error_handler(status, lambda error: ("their page", error.code))
    app.register_error_handler(HTTPException, lambda error: ("their other page", error.code))
    app.register_error_handler(Exception, lambda error: ("their last page", 500))
    app.register_error_handler(DeniedError, lambda error: ("denied by them", 418))
    app.before_request(_in_front)
    app.after_request(_behind)
    app.add_url_rule("/", view_func=lambda: jsonify("home"), endpoint="home")
    app.add_url_rule("/fails", view_func=lambda: str(1 / 0), endpoint="fails")
    app.add_url_rule("/llm/own", view_func=lambda: "their own", endpoint="own")
    return app


def _in_front() -> None:
    g.language = "en"
    what = request.headers.get("X-Host", "")
    if what == "denied":
        raise DeniedError
    if what == "bug":
        raise LookupError
    if what == "json":
        g.body = request.get_json()
    if what == "form":
        g.form = dict(request.form)
    if what.isdigit():
        abort(int(what))


def _behind(response: Response) -> Response:
    response.headers["X-Theirs"] = g.language
    return response


def mounted(settings: Settings, prefix: str = "/llm", **options: Any) -> tuple[Flask, ScriptedEngine]:
    """The application with us in it, and the engine behind us."""
    app, engine = host(), options.pop("engine", None) or ScriptedEngine()
    app.register_blueprint(create_blueprint(settings, engine=engine, **options), url_prefix=prefix)
    return app, engine
