"""A batched model's other runner: requests for beam search go to `generate`, all others share the batch."""

from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.fallback import GenerateRunner
from hugging_llama.engine.sequence import Sequence, StreamKey
from hugging_llama.engine.stats import RunnerStats, added_stats


class BeamRouting:
    """Two runners over the same weights. On a CPU they take turns, a step of the batch and a token of the beams."""

    kind = StepLoop.kind

    def __init__(self, batched: StepLoop, beams: GenerateRunner) -> None:
        self.reason = batched.reason
        self._batched = batched
        self._beams = beams

    def submit(self, sequence: Sequence) -> None:
        """Like `RunnerThread.submit`."""
        runner = self._beams if sequence.sampling.num_beams > 1 else self._batched
        runner.submit(sequence)

    def cancel(self, key: StreamKey) -> None:
        """Like `RunnerThread.cancel`."""
        self._batched.cancel(key)
        self._beams.cancel(key)

    def cancel_connection(self, connection_id: int) -> None:
        """Like `RunnerThread.cancel_connection`."""
        self._batched.cancel_connection(connection_id)
        self._beams.cancel_connection(connection_id)

    def stats(self) -> RunnerStats:
        """The figures of both together."""
        return added_stats(self._batched.stats(), self._beams.stats())

    @property
    def step_age_s(self) -> float:
        """Like `RunnerThread.step_age_s`."""
        return max(self._batched.step_age_s, self._beams.step_age_s)

    def close(self) -> None:
        """Like `RunnerThread.close`."""
        self._batched.close()
        self._beams.close()
