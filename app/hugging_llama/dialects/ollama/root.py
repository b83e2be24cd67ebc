"""GET / and /api/version: what clients ask first."""

from flask import Blueprint, Response

from hugging_llama.dialects.documented import Answer, documented, json_answer
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama.answers import json_response

blueprint = Blueprint("ollama_root", __name__)

EMULATED_VERSION = "0.32.15"
"""Ollama's release whose API this is; third parties compare it with the least one that they need."""


@blueprint.get("/")
@documented(Answer(content_type="text/plain", about="`Ollama is running`"), role=None)
def root() -> Response:
    """The liveness line of Ollama, for clients that look for it."""
    return Response("Ollama is running", content_type="text/plain; charset=utf-8")


@blueprint.get("/api/version")
@documented(json_answer(schemas.Version), role=None)
def version() -> Response:
    """The Ollama version that we are compatible with."""
    return json_response({"version": EMULATED_VERSION})
