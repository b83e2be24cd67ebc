"""GET / and /api/version: what clients ask first."""

from flask import Blueprint, Response

from hugging_llama.dialects.ollama.answers import json_response

blueprint = Blueprint("ollama_root", __name__)

EMULATED_VERSION = "0.32.15"
"""Ollama's release whose API this is; third parties compare it with the least one that they need."""


@blueprint.get("/")
def root() -> Response:
    """The liveness line of Ollama, for clients that look for it."""
    return Response("Ollama is running", content_type="text/plain; charset=utf-8")


@blueprint.get("/api/version")
def version() -> Response:
    """The Ollama version that we are compatible with."""
    return json_response({"version": EMULATED_VERSION})
