"""The models of Hugging Llama for those who may see tickets, at /assistant."""

from flask import Flask

from app.auth import current_person
from hugging_llama import Visitor, create_blueprint


def visitor() -> Visitor | None:
    if (person := current_person()) is None:
        return None
    return Visitor(id=person.name, roles=("use", "manage") if person.is_admin else ("use",), requests_per_minute=60)


def init_app(app: Flask) -> None:
    engine = app.config.get("ASSISTANT_ENGINE")
    blueprint = create_blueprint(app.config["ASSISTANT"], engine=engine, authenticate=visitor, without=("metrics",))
    app.register_blueprint(blueprint, url_prefix="/assistant")
