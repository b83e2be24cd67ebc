"""Any order of events in the life of models: what the registry promises holds throughout."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hugging_llama.engine.instances import Ticket
from hugging_llama.errors import ModelLoadError
from hugging_llama.neutral.models import ModelRef
from tests.unit.registry_world import FakeModel, World


class Lives(RuleBasedStateMachine):
    """Any order of requests, ends, loads, failures and time: what the registry promises holds throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(keep_alive_s=10, max_loaded=2)
        self.open: dict[int, Ticket[FakeModel]] = {}

    @rule(path=st.sampled_from("abc"), keep_alive_s=st.sampled_from([None, 0.0, 5.0, math.inf]))
    def ask(self, path: str, keep_alive_s: float | None) -> None:
        number, ticket = self.world.ask(path, keep_alive_s)
        self.open[number] = ticket

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.open)))
        self.world.registry.release(self.open.pop(number))

    @precondition(lambda self: self.world.spawned)
    @rule(data=st.data())
    def run_a_thread(self, data: st.DataObject) -> None:
        self.world.spawned.pop(data.draw(st.integers(0, len(self.world.spawned) - 1)))()

    @rule(path=st.sampled_from("abc"))
    def unload(self, path: str) -> None:
        self.world.registry.unload(ModelRef(name=path, path=path))

    @rule(path=st.sampled_from("abc"))
    def next_load_fails(self, path: str) -> None:
        self.world.failures[path] = ModelLoadError("broken")

    @rule(seconds=st.sampled_from([1.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.registry.expire()

    @invariant()
    def never_too_many(self) -> None:
        assert self.world.most_live <= 2

    @invariant()
    def nobody_holds_an_unloaded_model(self) -> None:
        for number in self.open:
            answer = self.world.answers.get(number)
            assert not isinstance(answer, FakeModel) or not answer.is_unloaded

    def teardown(self) -> None:
        """When everybody else leaves one after the other, every request gets its answer."""
        for number in sorted(self.open):
            self.world.run()
            assert number in self.world.answers or self.world.registry.num_waiting
            if number in self.world.answers:
                self.world.registry.release(self.open.pop(number))
        while self.open:
            self.world.run()
            answered = [number for number in self.open if number in self.world.answers]
            assert answered
            for number in answered:
                self.world.registry.release(self.open.pop(number))
        self.world.run()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
