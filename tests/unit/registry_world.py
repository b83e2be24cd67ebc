"""A registry with all its effects under control: no torch, no clock, no threads."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field

from hugging_llama.engine.admission import MemoryGauge, MemoryNeed
from hugging_llama.engine.instances import LoadFailure, Ticket
from hugging_llama.engine.registry import Registry
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama.neutral.models import ModelRef


@dataclass(eq=False)
class FakeModel:
    path: str
    held_bytes: int = 0
    is_unloaded: bool = False


@dataclass(eq=False)
class World:
    """Effects under control: a clock that is set, threads that run when told, loads that fail when told.

    With `memory` a load takes what `needs` says of its path (bytes, and the least), and asserts that it is there;
    forwards hold `passing` of it, others `dip`; None: nobody can tell how much is free.
    """

    keep_alive_s: float = 300.0
    max_loaded: int = 0
    max_queue: int = 512
    memory: int = 0
    needs: dict[str, tuple[int, int]] = field(default_factory=dict)
    contexts: list[int | None] = field(default_factory=list)
    now: float = 1000.0
    spawned: list[Callable[[], None]] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    passing: int = 0
    dip: int | None = 0
    num_alarms: int = 0
    parked: list[str] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)
    live: list[FakeModel] = field(default_factory=list)
    most_live: int = 0
    answers: dict[int, FakeModel | HuggingLlamaError] = field(default_factory=dict)
    num_requests: int = 0

    def __post_init__(self) -> None:
        self.registry: Registry[FakeModel] = Registry(
            load=self.load,
            unload=self.unload,
            spawn=self.spawned.append,
            clock=lambda: self.now,
            keep_alive_s=self.keep_alive_s,
            max_loaded=self.max_loaded,
            max_queue=self.max_queue,
            memory=self.gauge() if self.memory else None,
            deadline_changed=self.alarm,
        )

    def alarm(self) -> None:
        self.num_alarms += 1

    def gauge(self) -> MemoryGauge[FakeModel]:
        return MemoryGauge(
            need=self.need, free_bytes=lambda: self.free, held_bytes=lambda model: model.held_bytes,
            passing_bytes=lambda: self.passing, total_bytes=lambda: self.memory,
            parked=lambda ref: self.parked.append(ref.path),
        )  # fmt: skip

    @property
    def free(self) -> int:
        if self.dip is None:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.memory - self.passing - self.dip - sum(model.held_bytes for model in self.live)

    def need(self, ref: ModelRef, context_length: int | None) -> MemoryNeed:
        self.contexts.append(context_length)
        return MemoryNeed(*self.needs[ref.path])

    def load(self, ref: ModelRef) -> FakeModel:
        self.loads.append(ref.path)
        failure = self.failures.pop(ref.path, None)
        if failure:
            raise failure
        wanted, least = self.needs.get(ref.path, (0, 0))
        if self.memory:
            assert least <= self.free, "a load began for which there is no room"
        model = FakeModel(ref.path, min(wanted, self.free))
        self.live.append(model)
        self.most_live = max(self.most_live, len(self.live))
        return model

    def unload(self, model: FakeModel) -> None:
        assert not model.is_unloaded
        model.is_unloaded = True
        self.live.remove(model)

    def ask(
        self,
        path: str,
        keep_alive_s: float | None = None,
        context_length: int | None = None,
        caller: Caller = ANONYMOUS,
    ) -> tuple[int, Ticket[FakeModel]]:
        number = self.num_requests
        self.num_requests += 1

        def ready(result: FakeModel | LoadFailure) -> None:
            assert number not in self.answers
            self.answers[number] = result.error if isinstance(result, LoadFailure) else result

        ref = ModelRef(name=path, path=path)
        return number, self.registry.acquire(
            ref, keep_alive_s=keep_alive_s, on_ready=ready, context_length=context_length, caller=caller
        )

    def run(self) -> None:
        while self.spawned:
            self.spawned.pop(0)()

    def use(self, path: str, keep_alive_s: float | None = None) -> Ticket[FakeModel]:
        number, ticket = self.ask(path, keep_alive_s)
        self.run()
        assert isinstance(self.answers[number], FakeModel)
        return ticket

    @property
    def paths(self) -> list[str]:
        return sorted(model.path for model in self.live)
