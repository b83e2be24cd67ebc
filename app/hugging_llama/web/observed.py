"""Streams that are looked at in passing: an Observer for the operations, which fills figures and request facts.

Each stream ends in one observation, whether it finishes, fails or is closed early. Per token a clock is read
once; what is between tokens is counted many at a time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import ClassVar, Generic, Literal, TypeVar

from hugging_llama.dialects.request_facts import AnswerFacts, RequestFacts, request_facts
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.events import (
    AnswerStream,
    Classified,
    Embeddings,
    EventStream,
    Finished,
    GenerateEvent,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
)
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.operations.observer import PooledT
from hugging_llama.web.figures import Figures, PairFigures

_DELTAS = frozenset((TextDelta, ThinkingDelta, ToolCallDelta))
_GAPS_AT_ONCE = 32
"""What is between the tokens of a stream is counted so many at a time, the rest at its end."""
_LEFT, _DONE = "left", "done"

EventT = TypeVar("EventT")


class _Stream(ABC, Generic[EventT]):
    """Ends once, in `_ended`: with the word that it ends in, the code of an error, or `left`."""

    def __init__(self, events: EventStream[EventT], facts: RequestFacts) -> None:
        self._events = events
        self._facts = facts
        self._is_open = True

    def __iter__(self) -> Iterator[EventT]:
        return self

    def __next__(self) -> EventT:
        try:
            event = next(self._events)
        except HuggingLlamaError as error:
            self._end(error.code)
            raise
        except StopIteration:
            self._end(_LEFT)
            raise
        self._see(event)
        return event

    def close(self) -> None:
        self._events.close()
        self._end(_LEFT)

    def _end(self, outcome: str) -> None:
        if self._is_open:
            self._is_open = False
            self._facts.has_left |= outcome == _LEFT
            self._ended(outcome)

    @abstractmethod
    def _see(self, event: EventT) -> None: ...

    @abstractmethod
    def _ended(self, outcome: str) -> None: ...


class _Answer(_Stream[EventT]):
    """One answer of a model, which becomes part of what is known of its request."""

    kind: ClassVar[Literal["generate", "pool"]]

    def __init__(self, events: EventStream[EventT], figures: Figures, facts: RequestFacts, model: str) -> None:
        super().__init__(events, facts)
        self._figures = figures
        self._model = model
        self._begun_at_ns = facts.moment_ns()
        self._usage: Usage | None = None
        self._pair: PairFigures = figures.pair(facts.endpoint, model)

    def _count(self, usage: Usage, *, shares_prompt: bool = False) -> None:
        read = (0, 0) if shares_prompt else (usage.num_prompt_tokens, usage.num_cached_tokens)
        self._figures.count_tokens(self._facts, self._pair, *read, usage.num_output_tokens)
        self._usage = usage

    def _ended(self, outcome: str) -> None:
        answer = AnswerFacts(
            kind=self.kind, model=self._model, begun_at_ns=self._begun_at_ns, ended_at_ns=self._facts.moment_ns(),
            outcome=outcome, usage=self._usage,
        )  # fmt: skip
        self._facts.answers.append(answer)


class ObservedGeneration(_Answer[GenerateEvent]):
    """One answer of a model that writes."""

    kind = "generate"
    _events: AnswerStream

    def __init__(
        self, events: AnswerStream, figures: Figures, facts: RequestFacts, model: str, *, shares_prompt: bool
    ) -> None:
        super().__init__(events, figures, facts, model)
        self._shares_prompt = shares_prompt
        self._num_prompt_tokens = 0
        self._num_deltas = 0
        self._begun = perf_counter()
        self._last = facts.started
        self._gaps: list[float] = []

    @property
    def is_ready(self) -> bool:
        return self._events.is_ready

    @property
    def late_in_s(self) -> float:
        return self._events.late_in_s

    def listen(self, bell: Callable[[], None]) -> None:
        self._events.listen(bell)

    def _see(self, event: GenerateEvent) -> None:
        if type(event) in _DELTAS:
            now = perf_counter()
            self._see_delta(now - self._last)
            self._last = now
        elif isinstance(event, Started):
            self._num_prompt_tokens = event.num_prompt_tokens
        elif isinstance(event, Finished):
            self._pair.queue.observe(event.usage.queue_ns / 1e9)
            self._count(event.usage, shares_prompt=self._shares_prompt)
            self._end(event.reason.value)

    def _see_delta(self, after_s: float) -> None:
        self._num_deltas += 1
        if self._num_deltas > 1:
            self._gaps.append(after_s)
            if len(self._gaps) == _GAPS_AT_ONCE:
                self._tell_gaps()
            return
        self._pair.first_token.observe(after_s)
        if self._facts.first_token_s is None:
            self._facts.first_token_s = after_s

    def _tell_gaps(self) -> None:
        gaps, self._gaps = self._gaps, []  # the end may come from another thread
        if gaps:
            self._pair.inter_token.observe_all(gaps)

    def _ended(self, outcome: str) -> None:
        super()._ended(outcome)
        self._tell_gaps()
        if self._usage is None:  # the caller has left, or the engine has gone
            self._facts.prompt_tokens += 0 if self._shares_prompt else self._num_prompt_tokens
            self._facts.output_tokens += self._num_deltas
        self._figures.generations.labels(self._facts.endpoint, outcome).inc()
        self._pair.generation.observe(perf_counter() - self._begun)


class ObservedPooling(_Answer[PooledT]):
    """One answer of a model that reads whole inputs."""

    kind = "pool"

    def _see(self, event: PooledT) -> None:
        if isinstance(event, Embeddings | Classified):
            self._count(Usage(num_prompt_tokens=event.num_prompt_tokens, load_ns=event.load_ns))
            self._end(_DONE)


class ObservedTransfer(_Stream[TransferProgress]):
    """One pull or push."""

    def __init__(
        self,
        events: EventStream[TransferProgress],
        figures: Figures,
        facts: RequestFacts,
        kind: Literal["pull", "push"],
    ) -> None:
        super().__init__(events, facts)
        self._outcomes = figures.pulls if kind == "pull" else figures.pushes
        self._bytes = figures.pulled_bytes
        self._fetched_bytes = 0

    def _see(self, event: TransferProgress) -> None:
        if event.fetched_bytes > self._fetched_bytes:
            self._bytes.inc(event.fetched_bytes - self._fetched_bytes)
            self._fetched_bytes = event.fetched_bytes
        if event.status == "success":
            self._end(_DONE)

    def _ended(self, outcome: str) -> None:
        self._outcomes.labels(outcome).inc()


class FigureObserver:
    """Implements Observer: streams belong to the request in whose context they are made."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def generation(self, events: AnswerStream, model: str, *, shares_prompt: bool) -> AnswerStream:
        return ObservedGeneration(events, self._figures, request_facts(), model, shares_prompt=shares_prompt)

    def pooling(self, events: EventStream[PooledT], model: str) -> EventStream[PooledT]:
        return ObservedPooling(events, self._figures, request_facts(), model)

    def transfer(
        self, kind: Literal["pull", "push"], events: EventStream[TransferProgress]
    ) -> EventStream[TransferProgress]:
        return ObservedTransfer(events, self._figures, request_facts(), kind)
