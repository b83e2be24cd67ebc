"""Several callers wait for models: nobody's one model comes after all of somebody else's."""

import pytest

from hugging_llama.engine.instances import Ticket
from hugging_llama.errors import EngineBusyError, InsufficientMemoryError
from hugging_llama.neutral.callers import Caller
from hugging_llama.neutral.events import Progress
from hugging_llama.neutral.models import ModelRef
from tests.unit.registry_world import FakeModel, World

BULK, OTHER = Caller("bulk"), Caller("other")


def place(world: World, ref: ModelRef) -> int | None:
    wait = world.registry.wait_for(ref)
    return None if wait is None else wait.position


def serve_all(world: World, tickets: dict[int, Ticket[FakeModel]]) -> list[int]:
    """Each request is over as soon as it has its model; in which order they had it."""
    order: list[int] = []
    while len(order) < len(tickets):
        world.run()
        new = [number for number in tickets if number in world.answers and number not in order]
        assert new, "nobody goes on"
        order += new
        for number in new:
            world.registry.release(tickets[number])
    return order


def test_models_are_loaded_for_callers_in_turn() -> None:
    world = World(max_loaded=1, keep_alive_s=0.0)
    busy = world.use("busy")
    tickets = dict(world.ask(f"bulk-{number}", caller=BULK) for number in range(5))
    tickets |= dict(world.ask(f"other-{number}", caller=OTHER) for number in range(2))
    world.registry.release(busy)
    serve_all(world, tickets)
    assert world.loads[1:] == ["bulk-0", "other-0", "bulk-1", "other-1", "bulk-2", "bulk-3", "bulk-4"]


def test_a_higher_priority_is_loaded_first() -> None:
    world = World(max_loaded=1, keep_alive_s=0.0)
    busy = world.use("busy")
    tickets = dict([world.ask("low", caller=OTHER), world.ask("high", caller=Caller("x", priority=1))])
    world.registry.release(busy)
    serve_all(world, tickets)
    assert world.loads[1:] == ["high", "low"]


def test_a_full_queue_tells_how_long_loads_have_taken() -> None:
    world = World(max_loaded=1, max_queue=2)
    number, busy = world.ask("a")
    world.now += 9.0  # so long the load takes
    world.run()
    assert number in world.answers
    b = ModelRef(name="b", path="b")
    assert world.registry.wait_for(b) == Progress(phase="queue", position=1, expected_s=9.0)
    world.ask("b", caller=BULK)
    assert world.registry.wait_for(b) == Progress(phase="queue", position=2, expected_s=18.0)
    world.ask("c", caller=BULK)
    assert world.registry.wait_for(b, BULK) is None, "it would be refused"
    assert world.registry.wait_for(b, OTHER) == Progress(phase="queue", position=3, expected_s=27.0)
    with pytest.raises(EngineBusyError) as caught:
        world.ask("d", caller=BULK)
    assert caught.value.facts == {"queue_depth": 2, "retry_after_s": 18.0}
    world.ask("e", caller=OTHER)
    world.registry.release(busy)


def test_what_a_request_would_wait_for_is_known_before() -> None:
    world = World(max_loaded=1, max_queue=3)
    a, b = (ModelRef(name=path, path=path) for path in "ab")
    assert place(world, a) == 0
    _, waiting = world.ask("a")
    assert place(world, a) == 0
    assert place(world, b) == 1
    world.run()
    assert place(world, a) is None
    assert place(world, b) == 1, "a is in use"
    world.ask("b")
    world.ask("b")
    assert place(world, b) == 3
    world.ask("c")
    assert place(world, b) is None, "it would be refused"
    world.registry.release(waiting)
    world.run()
    assert place(world, a) == 2, "behind c"


def test_who_waits_for_memory_is_in_the_queue() -> None:
    world = World(memory=100, max_queue=1, needs={"a": (80, 80), "b": (80, 80)})
    busy, b = world.use("a"), ModelRef(name="b", path="b")
    world.ask("b")
    assert world.parked == []
    world.run()
    assert world.parked == ["b"]
    assert place(world, b) == 1
    _, other = world.ask("c")
    assert place(world, ModelRef(name="d", path="d")) is None, "it would be refused"
    assert place(world, b) == 1, "which needs no place in that queue"
    world.registry.release(other)
    world.registry.release(busy)
    world.run()
    assert place(world, b) is None
    assert world.parked == ["b"]


def test_who_is_refused_is_not_told_to_wait_before() -> None:
    world = World(memory=100, needs={"big": (500, 500), "c": (10, 10)})
    big, _ = world.ask("big")
    small, _ = world.ask("c")
    world.run()
    assert isinstance(world.answers[big], InsufficientMemoryError)
    assert isinstance(world.answers[small], FakeModel)
    assert world.parked == []


def test_without_a_queue_a_model_is_loaded_all_the_same() -> None:
    world = World(max_loaded=1, max_queue=0)
    busy = world.use("a")
    number, ticket = world.ask("b")  # the next load waits for its room, and nobody behind it
    assert place(world, ModelRef(name="c", path="c")) is None, "it would be refused"
    with pytest.raises(EngineBusyError):
        world.ask("c")
    world.registry.release(busy)
    world.run()
    assert isinstance(world.answers[number], FakeModel)
    world.registry.release(ticket)
    assert place(world, busy.ref) == 1, "once b has left"
    world.registry.release(world.use("a"))
