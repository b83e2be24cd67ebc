"""GET /openapi.json, and /docs, a page to read and try it. Nothing comes from elsewhere."""

from importlib import resources

import msgspec
from flask import Blueprint, Response, current_app, request

from hugging_llama.dialects.documented import Answer, documented
from hugging_llama.dialects.mounts import mount_name
from hugging_llama.web.context import web_context
from hugging_llama.web.errors import missed
from hugging_llama.web.openapi import openapi_document

blueprint = Blueprint("docs", __name__)

_PAGE = "docs_page"
_TYPES = {"docs.css": "text/css; charset=utf-8", "docs.js": "text/javascript; charset=utf-8"}
_POLICY = "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@blueprint.get("/openapi.json")
@documented(Answer(content_type="application/json", about="This document."), role=None)
def openapi() -> Response:
    """This API, as an OpenAPI document."""
    context = web_context()
    if context.openapi is None:  # routes do not change once a request is served
        context.openapi = openapi_document(current_app, mount_name())
    document = context.openapi | {"servers": [{"url": request.root_path or "/"}]}
    return Response(msgspec.json.encode(document), content_type="application/json")


@blueprint.get("/docs")
@documented(Answer(content_type="text/html", about="The page."), role=None)
def page() -> Response:
    """A page to read this API and to try it."""
    response = Response(_file("index.html"), content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@blueprint.get("/docs/<name>")
@documented(Answer(content_type="text/css", about="The file."), Answer(content_type="text/javascript"), role=None)
def asset(name: str) -> Response:
    """A file of the page."""
    if name not in _TYPES:
        return missed(None)
    return Response(_file(name), content_type=_TYPES[name])


def _file(name: str) -> bytes:
    return resources.files("hugging_llama.web").joinpath(_PAGE, name).read_bytes()
