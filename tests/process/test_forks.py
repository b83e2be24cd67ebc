"""What a process that forks leaves to its child of an engine that has died."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hugging_llama.client.remote import RemoteEngine
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import GenerateRequest, TextPrompt
from hugging_llama_config import launch
from hugging_llama_config.launch import is_supervised
from hugging_llama_config.settings import Settings
from tests.process import scripted_engine
from tests.process.servers import wait_until


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setattr(launch, "ENGINE_COMMAND", (sys.executable, str(Path(scripted_engine.__file__))))
    monkeypatch.setattr(launch, "LINGER_S", 1.0)
    with tempfile.TemporaryDirectory(prefix="hl-") as run_dir:
        settings = Settings(run_dir=run_dir)
        yield settings
        wait_until(lambda: not is_supervised(settings))


def test_a_child_forgets_a_connection_that_has_ended(settings: Settings) -> None:
    """Every pull of a gevent worker forks, also while the engine is being replaced."""
    engine = RemoteEngine(settings)
    request = GenerateRequest(model=ModelRef(name="demo", path="demo"), prompt=TextPrompt(text="n=1"))
    list(engine.generate(request))
    os.kill(engine.status(60).pid, signal.SIGKILL)
    (state,) = engine._states.values()
    connection = state.connection
    assert connection is not None
    wait_until(lambda: connection._sock.fileno() == -1)
    child = os.fork()
    if child == 0:
        os._exit(bool(engine._states))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    engine.close()
