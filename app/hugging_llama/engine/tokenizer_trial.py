"""Has a model's tokenizers read by a process of its own (tokenizer_worker.py), in bounded time and memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from hugging_llama.engine.worker_process import WorkerProcess
from hugging_llama.errors import ModelLoadError

_WORKER = "hugging_llama.engine.tokenizer_worker"


class TokenizerTrial:
    """Of one load. Goes on beside what is done in its block, and ends with that at the latest."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._process = WorkerProcess(_WORKER)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer-trial")

    def __enter__(self) -> "TokenizerTrial":
        self._problem = self._thread.submit(self._find_problem)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()
        self._thread.shutdown()

    def check(self) -> None:
        """To be called before the engine reads them; waits. Raises ModelLoadError."""
        if problem := self._problem.result():
            raise ModelLoadError(f"the model's {problem}")

    def _find_problem(self) -> str:
        for file in self._files:
            answer = self._process.ask(str(file))
            if isinstance(answer, int):
                return f"{file.name} can't be tried out just now"
            if "refusal" in answer:
                return f"{file.name} {answer['refusal']}"
        return ""
