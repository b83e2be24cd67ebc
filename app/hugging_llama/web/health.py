"""GET /health (this worker lives) and GET /ready (the engine answers)."""

from flask import Blueprint, Response
from marshmallow import fields

from hugging_llama.client.remote import RemoteEngine
from hugging_llama.dialects.base import app_context
from hugging_llama.dialects.documented import AnswerSchema, documented, json_answer
from hugging_llama.dialects.ollama.answers import json_response
from hugging_llama.errors import EngineError
from hugging_llama.web.context import web_context

blueprint = Blueprint("health", __name__)

READY_TIMEOUT_S = 1.0


class Health(AnswerSchema):
    status = fields.String(required=True)
    device = fields.String(required=True)


class Ready(Health):
    loaded = fields.Integer(required=True, metadata={"description": "Models in memory."})


class NotReady(AnswerSchema):
    status = fields.String(required=True)
    error = fields.String(required=True)


@blueprint.get("/health")
@documented(json_answer(Health), role=None)
def health() -> Response:
    """Liveness. Never waits for the engine: the device is what the engine last said, or what the machine has."""
    return json_response({"status": "ok", "device": web_context().device})


@blueprint.get("/ready")
@documented(json_answer(Ready), json_answer(NotReady, 503, "The engine does not answer."), role=None)
def ready() -> Response:
    """Readiness: 503 until the engine answers. Where none has been started yet, one is: who is asked whether it is
    ready may get no other request before it is."""
    engine = app_context().engine
    try:
        status = engine.status(READY_TIMEOUT_S)
    except EngineError as error:
        if isinstance(engine, RemoteEngine):
            engine.start()
        response = json_response({"status": "not ready", "error": error.message})
        response.status_code = 503
        return response
    web_context().device = status.device
    return json_response({"status": "ready", "device": status.device, "loaded": status.num_loaded})
