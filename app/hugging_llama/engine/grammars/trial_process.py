"""Has grammars tried out by a process of its own (trial_worker.py), in bounded time and memory."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from hugging_llama.errors import EngineShutdownError, GrammarError

_COMMAND = (sys.executable, "-m", "hugging_llama.engine.grammars.trial_worker")


class TrialProcess:
    """Started with the first grammar. Thread-safe; grammars take turns, so that hostile ones leave the other threads
    their cores. `size` and `special_ids` as in GrammarCompiler.
    """

    def __init__(self, size: int, special_ids: Mapping[str, int]) -> None:
        self._vocabulary = {"size": size, "special_ids": dict(special_ids)}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def run(self, grammar: str) -> int:
        """The bytes that the compiled grammar takes. Raises GrammarError for one that takes too much, of time or of
        memory, and EngineShutdownError after `close`. A grammar that makes no sense passes."""
        with self._lock:
            answer = self._answer(grammar)
        if "bytes" not in answer:
            raise GrammarError(f"this output format {answer['refusal']}")
        return int(answer["bytes"])

    def close(self) -> None:
        """Ends the process and what it is at; there is no other one afterwards."""
        self._is_closed = True
        if process := self._process:
            process.kill()
        with self._lock:
            self._end()

    def __del__(self) -> None:
        self._end()

    def _answer(self, grammar: str) -> dict[str, Any]:
        if self._is_closed:
            raise EngineShutdownError("the model is being unloaded")
        with contextlib.suppress(BrokenPipeError):
            lines: list[Any] = [grammar]
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                lines = [self._vocabulary, grammar]
            stdin, stdout = self._process.stdin, self._process.stdout
            assert stdin is not None
            assert stdout is not None
            stdin.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            stdin.flush()
            if answer := stdout.readline():
                return dict(json.loads(answer))
        self._end()
        if self._is_closed:
            raise EngineShutdownError("the model is being unloaded")
        return {"refusal": "could not be tried out"}

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        process.wait()
