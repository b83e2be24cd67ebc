"""The database: one connection a request."""

import os
import sqlite3

from flask import Flask, current_app, g
from werkzeug.security import generate_password_hash

_SCHEMA = """
CREATE TABLE IF NOT EXISTS people (name TEXT PRIMARY KEY, password TEXT NOT NULL, is_admin INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tickets (id INTEGER PRIMARY KEY, opened_by TEXT NOT NULL, text TEXT NOT NULL);
"""
_PEOPLE = (("ann", "secret", 0), ("root", "toor", 1))


def database() -> sqlite3.Connection:
    if "database" not in g:
        g.database = sqlite3.connect(current_app.config["DATABASE"])
        g.database.row_factory = sqlite3.Row
    connection: sqlite3.Connection = g.database
    return connection


def close(error: BaseException | None = None) -> None:
    if connection := g.pop("database", None):
        connection.close()


def init_app(app: Flask) -> None:
    os.makedirs(os.path.dirname(app.config["DATABASE"]), exist_ok=True)
    with app.app_context():
        database().executescript(_SCHEMA)
        for name, password, is_admin in _PEOPLE:
            hashed = generate_password_hash(password, "pbkdf2:sha256:1000")
            database().execute("INSERT OR IGNORE INTO people VALUES (?, ?, ?)", (name, hashed, is_admin))
        database().commit()
        close()
    app.teardown_appcontext(close)
