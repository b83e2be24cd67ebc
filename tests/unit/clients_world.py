"""What tests of the engine's clients share: the real server over scripted answers, in a thread."""

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from hugging_llama.engine.server import EngineServer
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import GenerateRequest, TextPrompt
from hugging_llama_config.launch import engine_settings, socket_path
from hugging_llama_config.settings import Settings
from tests.process.scripted_engine import ScriptedFacade

MODEL = ModelRef(name="demo", path="demo")
FOR_EVER = "n=5&prefill_ms=600000"


def request(text: str) -> GenerateRequest:
    return GenerateRequest(model=MODEL, prompt=TextPrompt(text=text))


def within(condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()


@contextlib.contextmanager
def serving(
    settings: Settings, fingerprint: str | None = None, linger_s: float | None = None
) -> Iterator[EngineServer]:
    """The real server in a thread of this process."""
    server = EngineServer(
        socket_path(settings), fingerprint or engine_settings(settings).fingerprint, ScriptedFacade, linger_s
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert within(lambda: listens(settings) or not thread.is_alive())
        yield server
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


def listens(settings: Settings) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(socket_path(settings)) == 0


@contextlib.contextmanager
def short_run_dir() -> Iterator[Settings]:
    """Settings whose sockets have short paths, which pytest's folders have not."""
    with tempfile.TemporaryDirectory(prefix="hl-") as run_dir:
        yield Settings(run_dir=run_dir)
