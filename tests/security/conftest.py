"""A real gunicorn with our configuration and the whole application, over the scripted engine; and the application in
this process, beside a stand-in Hub."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hugging_llama.engine.template_process import TemplateProcess
from tests.functional.conftest import hub_cache, make_client, settings  # noqa: F401
from tests.functional.field_probes import World
from tests.functional.field_probes import world as probed_world
from tests.live_server import LiveServer, live_server

BODY_TIMEOUT_S = 5.0
GUNICORN = Path(__file__).parents[1] / "process" / "scripted_gunicorn.py"
COMMAND = [sys.executable, "-m", "gunicorn", "-c", str(GUNICORN), "hugging_llama:create_app()"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The defaults, but for a shorter wait for bodies."""
    folder = tmp_path_factory.mktemp("security")
    with live_server(
        folder, folder / "hub", COMMAND, hub_endpoint="http://127.0.0.1:9", body_timeout_s=str(BODY_TIMEOUT_S)
    ) as running:
        yield running


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with probed_world(tmp_path_factory.mktemp("world")) as found:
        yield found


@pytest.fixture(scope="session")
def template_process() -> Iterator[TemplateProcess]:
    process = TemplateProcess()
    yield process
    process.close()
