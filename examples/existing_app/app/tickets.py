"""The tickets: a page, and an API for programs."""

from flask import Blueprint, Flask, abort, jsonify, render_template, request
from flask.typing import ResponseReturnValue

from app.auth import current_person
from app.storage import database

blueprint = Blueprint("tickets", __name__)


def init_app(app: Flask) -> None:
    app.register_blueprint(blueprint)


@blueprint.get("/")
def index() -> str:
    return render_template("tickets.html", tickets=all_tickets(), person=current_person())


@blueprint.get("/api/tickets")
def listed() -> ResponseReturnValue:
    return jsonify(tickets=all_tickets())


@blueprint.post("/api/tickets")
def opened() -> ResponseReturnValue:
    text = request.get_json().get("text")
    if not text:
        abort(400, "a ticket needs a text")
    person = current_person()
    assert person is not None
    cursor = database().execute("INSERT INTO tickets (opened_by, text) VALUES (?, ?)", (person.name, text))
    database().commit()
    return jsonify(id=cursor.lastrowid), 201


@blueprint.get("/api/tickets/<int:number>")
def one(number: int) -> ResponseReturnValue:
    row = database().execute("SELECT * FROM tickets WHERE id = ?", (number,)).fetchone()
    if row is None:
        abort(404)
    return jsonify(dict(row))


def all_tickets() -> list[dict[str, object]]:
    return [dict(row) for row in database().execute("SELECT * FROM tickets ORDER BY id")]
