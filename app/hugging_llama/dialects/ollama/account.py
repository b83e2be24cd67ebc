"""Accounts, cloud models and web search, as a server answers that has none of them: no request leaves it."""

from flask import Blueprint, Response

from hugging_llama.dialects.base import SMALL_BODY_BYTES, json_payload
from hugging_llama.dialects.documented import documented, json_answer
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama.answers import json_response
from hugging_llama.dialects.ollama.render import Json

blueprint = Blueprint("ollama_account", __name__)


def _refusal(text: str, status: int) -> Response:
    response = json_response({"error": text})
    response.status_code = status
    return response


@blueprint.get("/api/status")
@documented(json_answer(schemas.Status), role="use")
def status() -> Response:
    """Cloud models are off, by how the server is made."""
    cloud: Json = {"disabled": True, "source": "config"}
    return json_response({"cloud": cloud})


@blueprint.post("/api/me")
@documented(role="use")
def me() -> Response:
    """Nobody is signed in."""
    return _refusal("unauthorized", 401)


@blueprint.post("/api/signout")
@documented(role="use")
def signout() -> Response:
    """Nobody is signed in."""
    return _refusal("you are not currently signed in", 401)


@blueprint.delete("/api/user/keys/<path:key>")
@documented(role="use")
def delete_key(key: str) -> Response:
    """Nobody is signed in."""
    return _refusal("you are not currently signed in", 401)


@blueprint.post("/api/experimental/web_search")
@documented(body_type="application/json", role="use")
def web_search() -> Response:
    """Asks for what only a cloud does."""
    json_payload(limit=SMALL_BODY_BYTES)
    return _refusal("ollama cloud is disabled: web search is unavailable", 403)


@blueprint.post("/api/experimental/web_fetch")
@documented(body_type="application/json", role="use")
def web_fetch() -> Response:
    """Asks for what only a cloud does."""
    json_payload(limit=SMALL_BODY_BYTES)
    return _refusal("ollama cloud is disabled: web fetch is unavailable", 403)


@blueprint.get("/api/experimental/model-recommendations")
@documented(json_answer(schemas.Recommendations), role="use")
def recommendations() -> Response:
    """The cloud recommends; `hugging-llama catalog` says what fits a machine."""
    return json_response({"recommendations": []})
