"""A help desk: the application factory."""

from collections.abc import Mapping
from typing import Any

from flask import Flask

from app import assistant, auth, errors, metrics, storage, tickets


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY="only for trying it out",
        DATABASE=f"{app.instance_path}/tickets.db",
        MAX_CONTENT_LENGTH=2**20,
        ASSISTANT={},
    )
    app.config.from_mapping(config)
    for part in (storage, metrics, errors, auth, tickets, assistant):
        part.init_app(app)
    return app
