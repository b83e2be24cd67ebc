"""What a request that asks for it is told before its first token: rarely enough that nobody notices."""

from hugging_llama.neutral.events import GenerateEvent, Progress

_INTERVAL_NS = 250_000_000
_REPEAT_NS = 10_000_000_000
"""A proxy may cut a stream that says nothing for long."""


class ProgressMeter:
    """Of one request. A new phase is told at once, a change within one after a while, the same again after a longer
    one."""

    def __init__(self, interval_ns: int = _INTERVAL_NS) -> None:
        self._interval_ns = interval_ns
        self._told: Progress | None = None
        self._told_ns = 0

    def is_due(self, now_ns: int) -> bool:
        """Whether a change within the phase would be told."""
        return self._told is None or now_ns - self._told_ns >= self._interval_ns

    def in_queue(self, position: int, now_ns: int, expected_s: float = 0.0) -> list[GenerateEvent]:
        """What is to be told of its place in the queue."""
        return self._told_now(Progress(phase="queue", position=position, expected_s=expected_s), now_ns)

    def in_prompt(self, num_computed: int, num_tokens: int, now_ns: int) -> list[GenerateEvent]:
        """What is to be told of its prompt."""
        return self._told_now(
            Progress(phase="prompt", completed=min(num_computed, num_tokens), total=num_tokens), now_ns
        )

    def _told_now(self, progress: Progress, now_ns: int) -> list[GenerateEvent]:
        is_new_phase = self._told is None or self._told.phase != progress.phase
        is_news = progress != self._told or now_ns - self._told_ns >= _REPEAT_NS
        if not is_news or not (is_new_phase or self.is_due(now_ns)):
            return []
        self._told, self._told_ns = progress, now_ns
        return [progress]
