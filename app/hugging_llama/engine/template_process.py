"""Has templates of callers rendered by a process of their own (template_worker.py), which may die of them."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from typing import IO, Any

from hugging_llama.errors import EngineShutdownError, InvalidRequestError

_COMMAND = (sys.executable, "-m", "hugging_llama.engine.template_worker")


class TemplateProcess:
    """Started when it is first needed, and anew after a template has ended it. Thread-safe; jobs take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def render(self, template: str, rows: Any, tools: Any, variables: dict[str, Any], *, longest_s: float) -> str:
        """The text that a Jinja template writes, all values being JSON. Raises InvalidRequestError if it fails, or
        takes longer than `longest_s` or more memory than template_worker gives it, EngineShutdownError after `close`.
        """
        job = {"template": template, "rows": rows, "tools": tools, "variables": variables, "longest_s": longest_s}
        with self._lock:
            answer = self._answer(json.dumps(job).encode() + b"\n")
        if "text" not in answer:
            raise InvalidRequestError(f"this template {answer['refusal']}", param="template")
        return str(answer["text"])

    @property
    def is_running(self) -> bool:
        """Whether there is a process now."""
        return self._process is not None

    def close(self) -> None:
        """Ends the process and the job that it may be at; there is no other one afterwards."""
        self._is_closed = True
        if process := self._process:
            process.kill()
        with self._lock:
            self._end()

    def _answer(self, line: bytes) -> dict[str, str]:
        stdin, stdout = self._pipes()
        try:
            stdin.write(line)
            stdin.flush()
            if answer := stdout.readline():
                return dict(json.loads(answer))
        except BrokenPipeError:
            pass
        if self._is_closed:
            raise EngineShutdownError("the model is being unloaded")
        is_late = self._end() == -signal.SIGALRM
        return {"refusal": "takes too long" if is_late else "takes too much memory"}

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Of a process that lives. Raises EngineShutdownError."""
        if self._is_closed:
            raise EngineShutdownError("the model is being unloaded")
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        return stdin, stdout

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
