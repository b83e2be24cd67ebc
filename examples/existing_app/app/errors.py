"""Error pages: HTML for people, JSON for programs, and one for whatever else happens."""

import logging

from flask import Flask, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, InternalServerError

logger = logging.getLogger(__name__)


def init_app(app: Flask) -> None:
    for status in (400, 401, 403, 404, 405, 413):
        app.register_error_handler(status, told)
    app.register_error_handler(Exception, unexpected)


def told(error: HTTPException) -> ResponseReturnValue:
    if request.path.startswith("/api/"):
        return jsonify(message=error.description), error.code or 500
    return render_template("error.html", error=error), error.code or 500


def unexpected(error: Exception) -> ResponseReturnValue:
    if isinstance(error, HTTPException):
        return told(error)
    logger.exception("%s %s", request.method, request.path)
    return told(InternalServerError())
