"""`python -m hugging_llama.engine SOCKET [PIPE]`: the engine process. A supervisor starts it and writes a Launch to its
standard input, at once or when the engine before it has died; it reads no environment. PIPE is a descriptor that the
supervisor listens at for signs of life."""

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from hugging_llama.engine.heartbeat import Heartbeat
from hugging_llama.engine.server import EngineServer
from hugging_llama.ipc.facade import Emit, EngineFacade
from hugging_llama_config.launch import Launch
from hugging_llama_config.log_levels import watch_levels
from hugging_llama_config.logging import configure_logging
from hugging_llama_config.settings import Settings


def serve(arguments: Sequence[str], make_engine: Callable[[Settings], Callable[[Emit], EngineFacade]]) -> NoReturn:
    """Read the launch, serve what `make_engine` makes of the settings, end the process when told to stop."""
    path, pipe = arguments[0], int(arguments[1]) if len(arguments) > 1 else None
    heartbeat = Heartbeat(pipe)
    text = sys.stdin.read()
    if not text:
        sys.exit(0)  # it stood by, and its supervisor has ended
    launch = Launch.from_json(text)
    _close_stdin()
    faulthandler.enable()
    configure_logging(launch.settings.log_level, "engine", launch.settings.log_format)
    watch_levels(os.path.dirname(path), launch.settings.log_levels)
    heartbeat.start(launch.settings.engine_timeout_s)
    make = make_engine(launch.settings)
    server = EngineServer(path, launch.settings.fingerprint, make, launch.linger_s, heartbeat)
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


def main() -> NoReturn:
    """The real engine."""
    # torch comes in here: before the socket appears, and before standard input is read, so that an engine that
    # stands by has it already
    from hugging_llama.engine.engine import Engine

    serve(sys.argv[1:], lambda settings: lambda emit: Engine(settings, emit))


if __name__ == "__main__":
    main()
