"""Has grammars tried out by a process of its own (trial_worker.py), in bounded time and memory."""

from collections.abc import Mapping

from hugging_llama.engine.worker_process import WorkerProcess
from hugging_llama.errors import GrammarError


class TrialProcess(WorkerProcess):
    """Grammars take turns, so that hostile ones leave the other threads their cores. `size` and `special_ids` as in
    GrammarCompiler.
    """

    def __init__(self, size: int, special_ids: Mapping[str, int]) -> None:
        vocabulary = {"size": size, "special_ids": dict(special_ids)}
        super().__init__("hugging_llama.engine.grammars.trial_worker", first=vocabulary)

    def run(self, grammar: str) -> int:
        """The bytes that the compiled grammar takes. Raises GrammarError for one that takes too much, of time or of
        memory, and EngineShutdownError after `close`. A grammar that makes no sense passes."""
        answer = self.ask(grammar)
        if isinstance(answer, int):
            answer = {"refusal": "could not be tried out"}
        if "bytes" not in answer:
            raise GrammarError(f"this output format {answer['refusal']}")
        return int(answer["bytes"])
