"""The application with a database and model folders of its own. One engine serves all tests that generate."""

import tempfile
from collections.abc import Iterator

import pytest
from app import create_app
from flask import Flask
from flask.testing import FlaskClient


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("desk")
    # the path of a socket may have 107 bytes only, and pytest's folders are longer
    with tempfile.TemporaryDirectory(prefix="desk-") as run_dir:
        assistant = {"home": str(folder / "home"), "hub_cache": str(folder / "hub"), "run_dir": f"{run_dir}/run"}
        yield create_app({"TESTING": True, "DATABASE": str(folder / "tickets.db"), "ASSISTANT": assistant})


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
