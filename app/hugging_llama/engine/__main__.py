"""`python -m hugging_llama.engine SOCKET`: the engine process. A supervisor starts it and writes a Launch to its
standard input; it reads no environment."""

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from hugging_llama.engine.server import EngineServer
from hugging_llama.ipc.facade import Emit, EngineFacade
from hugging_llama_config.launch import Launch
from hugging_llama_config.logging import configure_logging
from hugging_llama_config.settings import Settings


def serve(path: str, make_engine: Callable[[Settings], Callable[[Emit], EngineFacade]]) -> NoReturn:
    """Read the launch, serve what `make_engine` makes of the settings, end the process when told to stop."""
    launch = Launch.from_json(sys.stdin.read())
    _close_stdin()
    faulthandler.enable()
    configure_logging(launch.settings.log_level, "engine")
    server = EngineServer(path, launch.settings.fingerprint, make_engine(launch.settings), launch.linger_s)
    signal.signal(signal.SIGTERM, lambda signum, frame: server.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server.run()
    # everything is closed by now, and what is left, the interpreter taking torch down, takes seconds
    logging.shutdown()
    os._exit(0)


def _close_stdin() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, sys.stdin.fileno())
    os.close(null)


def _real_engine(settings: Settings) -> Callable[[Emit], EngineFacade]:
    # imported here: this is where torch comes in, before the socket appears
    from hugging_llama.engine.engine import Engine

    return lambda emit: Engine(settings, emit)


if __name__ == "__main__":
    serve(sys.argv[1], _real_engine)
