"""Who is there: a session for browsers, name and password in the header for programs."""

from dataclasses import dataclass

from flask import Blueprint, Flask, Response, flash, g, redirect, render_template, request, session, url_for
from werkzeug.security import check_password_hash
from werkzeug.wrappers import Response as AnyResponse

from app.storage import database

blueprint = Blueprint("auth", __name__)

_OPEN = {"auth.login", "metrics.page", "static"}


@dataclass(frozen=True)
class Person:
    name: str
    is_admin: bool


def current_person() -> Person | None:
    return g.get("person")


def init_app(app: Flask) -> None:
    app.before_request(find_person)
    app.before_request(ask_to_log_in)
    app.after_request(add_security_headers)
    app.register_blueprint(blueprint)


def find_person() -> None:
    g.person = None
    if request.authorization and request.authorization.type == "basic":
        g.person = check(request.authorization.username or "", request.authorization.password or "")
    elif name := session.get("name"):
        row = database().execute("SELECT name, is_admin FROM people WHERE name = ?", (name,)).fetchone()
        g.person = Person(row["name"], bool(row["is_admin"])) if row else None


def ask_to_log_in() -> AnyResponse | None:
    if g.person or request.endpoint is None or request.endpoint in _OPEN:
        return None
    if "hugging_llama" in request.blueprints:  # refuses in the words of the API that was called
        return None
    if request.path.startswith("/api/"):
        return Response('{"message": "log in first"}', status=401, mimetype="application/json")
    return redirect(url_for("auth.login", next=request.path))


def check(name: str, password: str) -> Person | None:
    row = database().execute("SELECT * FROM people WHERE name = ?", (name,)).fetchone()
    if row is None or not check_password_hash(row["password"], password):
        return None
    return Person(row["name"], bool(row["is_admin"]))


def add_security_headers(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", "default-src 'self'")
    return response


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> str | AnyResponse:
    if request.method == "POST":
        person = check(request.form["name"], request.form["password"])
        if person:
            session.clear()
            session["name"] = person.name
            return redirect(url_for("tickets.index"))
        flash("Wrong name or password.")
    return render_template("login.html")


@blueprint.post("/logout")
def logout() -> AnyResponse:
    session.clear()
    return redirect(url_for("auth.login"))
