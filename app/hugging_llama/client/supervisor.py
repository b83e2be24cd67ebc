"""`python -m hugging_llama.client.supervisor`: keeps one engine process alive. Standard library only.

Once an engine has been steady for a while, a second one is started up to the point where it would be told its
settings. When the first one dies, that one takes over, so that a crash costs no import of torch, which takes seconds.

It must stay single-threaded: the kernel sends the engine's parent-death signal when the *thread* that forked it
ends. It ends with its engine when it gets TERM or when its life line (the read end of a pipe) reaches its end, which
the kernel sees to even if the gunicorn master is killed. An engine that leaves by itself with status 0 is not
started again. The lock it was given is held until it exits, however that comes about; that the engine ends again and
again is noted in the lock's file, so that nobody waits for it in vain. Without a life line nobody would end it where
every engine fails, so it goes a while after that was noted, and the next request starts another one. An engine that
gives no sign of life for a while, because it is stopped or its threads wait for each other, is killed.
"""

import argparse
import contextlib
import ctypes
import logging
import math
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hugging_llama_config.launch import BEATS, IMPORTED, note_failing
from hugging_llama_config.logging import configure_logging

logger = logging.getLogger("hugging_llama.supervisor")

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
STEADY_S = 10.0
"""An engine that lived as long as this starts the back-off anew."""
FAILING_AFTER = 5
"""So many engines in a row that were not steady are noted."""
STOP_TIMEOUT_S = 3.0
IMPORTS_S = 300.0
"""So long an engine may be silent before its first sign of life."""
START_S = 30.0
"""The same between its imports and the first sign that it serves, or where another one has imported what it needs."""
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Engine:
    """A process and the pipe of its signs of life; `num_silent` counts the waits without one, in a row."""

    process: "subprocess.Popen[bytes]"
    pipe: int | None
    num_silent: int = 0
    patience_s: float = IMPORTS_S
    has_served: bool = False

    def let_go(self) -> None:
        if self.pipe is not None:
            os.close(self.pipe)
            self.pipe = None


class Supervisor:
    """One engine and the reasons to end. `run` is called once, on the main thread.

    `standby_after_s`: how long an engine must have lived before another one is kept ready; None: never.
    `silent_after_s`: how long one may give no sign of life; None: for ever. `linger_s`: how long engines that end again
    and again are replaced once that is noted; None: for ever.
    """

    def __init__(
        self,
        command: Sequence[str],
        launch: str,
        lock: int,
        life_line: int | None,
        standby_after_s: float | None = None,
        silent_after_s: float | None = None,
        linger_s: float | None = None,
    ) -> None:
        self._command = list(command)
        self._launch = launch
        self._lock = lock
        self._life_line = life_line
        self._standby_after_s = standby_after_s
        self._beat_s = silent_after_s and silent_after_s / BEATS
        self._linger_s = math.inf if linger_s is None else linger_s
        self._standby: Engine | None = None
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
        num_unsteady, backoff_s, failing_at = 0, FIRST_BACKOFF_S, math.inf
        while not self._ended:
            started_at = time.monotonic()
            engine = self._start()
            self._wait_with_standby(engine)
            if self._ended:
                self._stop(engine.process)
            engine.let_go()
            if self._ended or engine.process.returncode == 0:
                break
            logger.warning("the engine (pid %d) ended with status %d", engine.process.pid, engine.process.returncode)
            num_unsteady += 1
            # one that was silent from the start has not served anybody, however long that was waited for
            if time.monotonic() - started_at > STEADY_S and (engine.has_served or self._beat_s is None):
                num_unsteady, backoff_s, failing_at = 0, FIRST_BACKOFF_S, math.inf
            if num_unsteady >= FAILING_AFTER:
                failing_at = min(failing_at, time.monotonic())
            note_failing(self._lock, failing=num_unsteady >= FAILING_AFTER)
            if time.monotonic() - failing_at >= self._linger_s:
                logger.error("the engine ends again and again: the next request will try anew")
                break
            if self._standby is None:
                self._wait(backoff_s, None)
                backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)
        if self._standby is not None:
            self._standby.process.kill()
            self._standby.process.communicate()

    def _start(self) -> Engine:
        """An engine that knows its settings: the one that stands by, or a new one."""
        engine, self._standby = self._standby, None
        if engine is not None and engine.process.poll() is not None:
            engine.let_go()
            engine = None
        engine = engine or self._spawn()
        assert engine.process.stdin is not None
        # a broken pipe: it died just now, which is seen when it is waited for
        with contextlib.suppress(BrokenPipeError), engine.process.stdin as pipe:
            pipe.write(self._launch.encode())
        return engine

    def _spawn(self) -> Engine:
        """A process that imports what it needs and waits for its settings."""
        command, pipe, inherited = self._command, None, []
        if self._beat_s is not None:
            pipe, writer = os.pipe()
            command, inherited = [*command, str(writer)], [writer]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            pass_fds=inherited,
            preexec_fn=_die_with_parent(os.getpid()),
            umask=0o077,
        )
        for descriptor in inherited:
            os.close(descriptor)
        return Engine(process, pipe)

    def _wait_with_standby(self, engine: Engine) -> None:
        """Until the engine ended or there is a reason to end; meanwhile another one gets ready."""
        while not self._ended and engine.process.poll() is None:
            self._wait(self._standby_after_s, engine)
            if self._standby is not None and self._standby.process.poll() is not None:
                self._standby.let_go()
                self._standby = None
            if self._standby is None and not self._ended and engine.process.poll() is None:
                self._standby = self._spawn()

    def _wait(self, timeout_s: float | None, engine: Engine | None) -> None:
        """Until the engine ended, the time is over or there is a reason to end."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._ended and (engine is None or engine.process.poll() is None):
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return
            pipe = None if engine is None else engine.pipe
            watched = [fd for fd in (self._wake, self._life_line, pipe) if fd is not None]
            wait_s = remaining_s if pipe is None or self._beat_s is None else min(remaining_s, self._beat_s)
            readable, _, _ = select.select(watched, [], [], None if math.isinf(wait_s) else wait_s)
            if self._wake in readable:
                os.read(self._wake, 4096)
            if self._life_line in readable:
                self._ended = True
            if engine is not None and pipe is not None and (pipe in readable or not readable):
                self._listen(engine, pipe, is_silent=not readable)

    def _listen(self, engine: Engine, pipe: int, *, is_silent: bool) -> None:
        """Counts waits, not time: while the supervisor itself was stopped, or the machine asleep, nobody waited."""
        assert self._beat_s is not None  # there is a pipe
        if not is_silent:
            signs = os.read(pipe, 4096)
            engine.num_silent, engine.has_served = 0, engine.has_served or signs.strip(IMPORTED) != b""
            engine.patience_s = 0.0 if engine.has_served else START_S
            if not signs:
                engine.let_go()  # it is ending
            return
        engine.num_silent += 1
        patience_s = min(engine.patience_s, START_S) if self._has_ready_standby() else engine.patience_s
        if engine.num_silent > max(BEATS, patience_s / self._beat_s):
            logger.error("the engine (pid %d) gives no sign of life and is killed", engine.process.pid)
            engine.process.kill()
            engine.process.wait()

    def _has_ready_standby(self) -> bool:
        """Whether the one that stands by has given its first sign."""
        pipe = None if self._standby is None else self._standby.pipe
        return pipe is not None and bool(select.select([pipe], [], [], 0)[0])

    def _stop(self, engine: "subprocess.Popen[bytes]") -> None:
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
    parser.add_argument("--log-format", default="text", help="text or json")
    parser.add_argument("--life-line", type=int, help="descriptor whose end is our end")
    parser.add_argument("--standby-after", type=float, help="seconds after which a second engine gets ready")
    parser.add_argument("--silent-after", type=float, help="seconds without a sign of life after which one is killed")
    parser.add_argument("--linger", type=float, help="seconds for which engines that end again and again are replaced")
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
    configure_logging(options.log_level, "supervisor", options.log_format)
    # who started us may block signals, as uWSGI does in its threads: neither TERM nor an engine's end would be seen
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    waits = options.standby_after, options.silent_after, options.linger
    Supervisor(options.engine, launch, options.lock, options.life_line, *waits).run()


if __name__ == "__main__":
    main()
