"""A process that does jobs for strangers, of which it may die: lines of JSON in, one answer a line out."""

import contextlib
import json
import subprocess
import sys
import threading
from typing import Any

from hugging_llama.errors import EngineShutdownError


class WorkerProcess:
    """`python -P -m module`, started with the first job or before, and anew after one has ended it. Jobs take turns.

    Thread-safe. `first` is a line that a new process gets before its jobs.
    """

    def __init__(self, module: str, *, first: Any = None) -> None:
        self._command = (sys.executable, "-P", "-m", module)
        self._first = first
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    @property
    def is_running(self) -> bool:
        """Whether there is a process now."""
        return self._process is not None

    def start(self) -> None:
        """Has a process ready before its first job. Raises EngineShutdownError after `close`."""
        with self._lock, contextlib.suppress(OSError):  # which its first job will tell of
            self._check_open()
            process, lines = self._living()
            assert process.stdin is not None
            process.stdin.write(lines)
            process.stdin.flush()

    def ask(self, job: Any) -> dict[str, Any] | int:
        """The answer, or the exit status if there was none. Raises EngineShutdownError after `close`."""
        line = _line(job)
        with self._lock:
            self._check_open()
            with contextlib.suppress(BrokenPipeError):
                process, lines = self._living()
                self._check_open()  # `close` may have come before there was a process to kill
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(lines + line)
                process.stdin.flush()
                if (answer := process.stdout.readline()).endswith(b"\n"):  # else it was ended in the middle
                    return dict(json.loads(answer))
            status = self._end()
            self._check_open()
            return status

    def close(self) -> None:
        """Ends the process and the job that it may be at; there is no other one afterwards."""
        self._is_closed = True
        if process := self._process:
            process.kill()
        with self._lock:
            self._end()

    def __del__(self) -> None:
        self._end()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineShutdownError("the model is being unloaded")

    def _living(self) -> tuple[subprocess.Popen[bytes], bytes]:
        """A process, and what it must read before a job."""
        if self._process is not None and self._process.poll() is None:
            return self._process, b""
        self._end()
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process, b"" if self._first is None else _line(self._first)

    def _end(self) -> int:
        """The exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        return process.wait()


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
