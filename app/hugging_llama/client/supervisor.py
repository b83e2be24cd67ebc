"""`python -m hugging_llama.client.supervisor`: keeps one engine process alive. Standard library only.

Once an engine has been steady for a while, a second one is started up to the point where it would be told its
settings. When the first one dies, that one takes over, so that a crash costs no import of torch, which takes seconds.

It must stay single-threaded: the kernel sends the engine's parent-death signal when the *thread* that forked it
ends. It ends with its engine when it gets TERM or when its life line (the read end of a pipe) reaches its end, which
the kernel sees to even if the gunicorn master is killed. An engine that leaves by itself with status 0 is not
started again. The lock it was given is held until it exits, however that comes about; that the engine ends again and
again is noted in the lock's file, so that nobody waits for it in vain.
"""

import argparse
import contextlib
import ctypes
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from hugging_llama_config.launch import note_failing
from hugging_llama_config.logging import configure_logging

logger = logging.getLogger("hugging_llama.supervisor")

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
STEADY_S = 10.0
"""An engine that lived as long as this starts the back-off anew."""
FAILING_AFTER = 5
"""So many engines in a row that were not steady are noted."""
STOP_TIMEOUT_S = 3.0
_PR_SET_PDEATHSIG = 1


class Supervisor:
    """One engine and the reasons to end. `run` is called once, on the main thread.

    `standby_after_s`: how long an engine must have lived before another one is kept ready; None: never.
    """

    def __init__(
        self,
        command: Sequence[str],
        launch: str,
        lock: int,
        life_line: int | None,
        standby_after_s: float | None = None,
    ) -> None:
        self._command = list(command)
        self._launch = launch
        self._lock = lock
        self._life_line = life_line
        self._standby_after_s = standby_after_s
        self._standby: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._wake, wake_writer = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_writer, False)
        # every signal with a handler makes the select below return; without it a signal between two calls is lost
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def run(self) -> None:
        """Start the engine again and again until there is a reason to end."""
        num_unsteady, backoff_s = 0, FIRST_BACKOFF_S
        while not self._ended:
            started_at = time.monotonic()
            engine = self._start()
            self._wait_with_standby(engine)
            if self._ended:
                self._stop(engine)
            if self._ended or engine.returncode == 0:
                break
            logger.warning("the engine (pid %d) ended with status %d", engine.pid, engine.returncode)
            num_unsteady += 1
            if time.monotonic() - started_at > STEADY_S:
                num_unsteady, backoff_s = 0, FIRST_BACKOFF_S
            note_failing(self._lock, failing=num_unsteady >= FAILING_AFTER)
            if self._standby is None:
                self._wait(backoff_s, None)
                backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)
        if self._standby is not None:
            self._standby.kill()
            self._standby.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        """An engine that knows its settings: the one that stands by, or a new one."""
        engine, self._standby = self._standby, None
        if engine is None or engine.poll() is not None:
            engine = self._spawn()
        assert engine.stdin is not None
        # a broken pipe: it died just now, which is seen when it is waited for
        with contextlib.suppress(BrokenPipeError), engine.stdin as pipe:
            pipe.write(self._launch.encode())
        return engine

    def _spawn(self) -> subprocess.Popen[bytes]:
        """A process that imports what it needs and waits for its settings."""
        return subprocess.Popen(
            self._command, stdin=subprocess.PIPE, preexec_fn=_die_with_parent(os.getpid()), umask=0o077
        )

    def _wait_with_standby(self, engine: subprocess.Popen[bytes]) -> None:
        """Until the engine ended or there is a reason to end; meanwhile another one gets ready."""
        if self._standby_after_s is not None:
            self._wait(self._standby_after_s, engine)
            if not self._ended and engine.poll() is None:
                self._standby = self._spawn()
        self._wait(None, engine)

    def _wait(self, timeout_s: float | None, engine: subprocess.Popen[bytes] | None) -> None:
        """Until the engine ended, the time is over or there is a reason to end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        watched = [self._wake] if self._life_line is None else [self._wake, self._life_line]
        while not self._ended and (engine is None or engine.poll() is None):
            remaining_s = None if deadline is None else deadline - time.monotonic()
            if remaining_s is not None and remaining_s <= 0:
                return
            readable, _, _ = select.select(watched, [], [], remaining_s)
            if self._wake in readable:
                os.read(self._wake, 4096)
            if self._life_line in readable:
                self._ended = True

    def _stop(self, engine: subprocess.Popen[bytes]) -> None:
        engine.terminate()
        try:
            engine.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()

    def _on_term(self, signum: int, frame: object) -> None:
        self._ended = True


def _die_with_parent(parent: int) -> Callable[[], None]:
    """What the engine's process does between fork and exec. Where there is no prctl it outlives a killed supervisor."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def before_exec() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

    return before_exec


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="hugging_llama.client.supervisor", description=__doc__)
    parser.add_argument("--lock", type=int, required=True, help="descriptor that holds the lock")
    parser.add_argument("--log-level", default="info", help="debug, info, warning or error")
    parser.add_argument("--life-line", type=int, help="descriptor whose end is our end")
    parser.add_argument("--standby-after", type=float, help="seconds after which a second engine gets ready")
    parser.add_argument("engine", nargs="+", help="command of the engine")
    options = parser.parse_args(arguments)
    launch = sys.stdin.read()
    # single-threaded here, so forking is safe; the parent goes, so that whoever started us reaps at once
    if os.fork():
        os._exit(0)
    # the starter's copy of the lock is closed at its exec and exit; ours must not reach the engine
    os.set_inheritable(options.lock, False)
    if options.life_line is not None:
        os.set_inheritable(options.life_line, False)
    configure_logging(options.log_level, "supervisor")
    Supervisor(options.engine, launch, options.lock, options.life_line, options.standby_after).run()


if __name__ == "__main__":
    main()
