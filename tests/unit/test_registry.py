"""The life of models in memory, with a fake clock and fake models: no torch, no threads but where they matter."""

import math
import threading
from collections.abc import Callable

import pytest

from hugging_llama.engine.registry import Registry
from hugging_llama.errors import (
    EngineBusyError,
    EngineShutdownError,
    InsufficientMemoryError,
    ModelLoadError,
)
from hugging_llama.neutral.models import ModelRef
from tests.unit.registry_world import FakeModel, World


def test_requests_share_one_load_and_one_model() -> None:
    world = World()
    numbers = [world.ask("a")[0] for _ in range(3)]
    assert world.registry.num_waiting == 3
    assert world.registry.residents()[0].model is None
    world.run()
    assert world.loads == ["a"]
    assert len({id(world.answers[number]) for number in numbers}) == 1
    number, _ = world.ask("a")
    assert world.answers[number] is world.answers[numbers[0]]
    assert world.registry.residents()[0].ref_count == 4


def test_a_copy_is_shown_under_the_name_that_was_used_last() -> None:
    world = World(keep_alive_s=10)
    base, mine = (ModelRef(name=name, path="a") for name in ("base", "mine"))
    tickets = [world.registry.acquire(ref, keep_alive_s=None, on_ready=lambda model: None) for ref in (base, mine)]
    world.run()
    assert world.loads == ["a"]
    assert [resident.ref.name for resident in world.registry.residents()] == ["mine"]
    for ticket in tickets:
        world.registry.release(ticket)
    again = world.registry.acquire(base, keep_alive_s=60, on_ready=lambda model: None)
    world.registry.release(again)
    (resident,) = world.registry.residents()
    assert (resident.ref.name, resident.expires_in_s) == ("base", 60)
    world.registry.unload(mine)
    assert world.registry.residents() == []


def test_a_failed_load_fails_all_who_wait_and_the_next_request_tries_again() -> None:
    world = World()
    world.failures["a"] = ModelLoadError("broken")
    numbers = [world.ask("a")[0] for _ in range(2)]
    world.run()
    first, second = (world.answers[number] for number in numbers)
    assert isinstance(first, ModelLoadError)
    assert first is second
    assert world.registry.residents() == []
    world.use("a")


def test_an_unexpected_exception_becomes_a_load_error() -> None:
    world = World()
    world.failures["a"] = ZeroDivisionError("secret path")
    number, _ = world.ask("a")
    world.run()
    error = world.answers[number]
    assert isinstance(error, ModelLoadError)
    assert "secret" not in error.message


def test_the_time_to_live_starts_when_the_last_request_ends() -> None:
    world = World(keep_alive_s=10)
    first, second = world.use("a"), world.use("a")
    world.now += 100
    assert world.registry.expire() == math.inf
    world.registry.release(first)
    world.now += 100
    world.registry.release(second)
    assert world.registry.expire() == 10
    world.now += 9
    assert world.registry.expire() == 1
    world.run()
    assert world.paths == ["a"]
    world.now += 1
    world.registry.expire()
    world.run()
    assert world.paths == []
    assert world.registry.residents() == []


def test_keep_alive_sticks_to_the_instance() -> None:
    world = World(keep_alive_s=10)
    world.registry.release(world.use("a", keep_alive_s=60))
    world.registry.release(world.use("a"))
    assert world.registry.expire() == 60
    world.registry.release(world.use("a", keep_alive_s=math.inf))
    assert world.registry.expire() == math.inf
    assert world.registry.residents()[0].expires_in_s == math.inf
    world.registry.release(world.use("a", keep_alive_s=0))
    world.run()
    assert world.paths == []
    world.registry.release(world.use("a"))
    assert world.registry.expire() == 10


def test_unload_waits_for_the_last_request() -> None:
    world = World()
    first, second = world.use("a"), world.use("a")
    world.registry.unload(ModelRef(name="a", path="a"))
    world.run()
    assert world.paths == ["a"]
    assert world.registry.residents()[0].expires_in_s == 0
    world.registry.release(first)
    world.run()
    assert world.paths == ["a"]
    world.registry.release(second)
    world.registry.release(second)
    world.run()
    assert world.paths == []


def test_unload_of_an_idle_and_of_an_unknown_model() -> None:
    world = World()
    world.registry.unload(ModelRef(name="nothing", path="nothing"))
    world.registry.release(world.use("a", keep_alive_s=math.inf))
    world.registry.unload(ModelRef(name="a", path="a"))
    world.run()
    assert world.paths == []


def test_an_unload_leaves_other_quantizations_of_the_model_alone() -> None:
    world = World()
    exact, small = (ModelRef(name="a", path="a", quantization=name) for name in ("none", "int8"))
    for ref in (exact, small):
        ticket = world.registry.acquire(ref, keep_alive_s=None, on_ready=lambda ready: None)
        world.run()
        world.registry.release(ticket)
    world.registry.unload(small)
    world.run()
    assert [resident.ref for resident in world.registry.residents()] == [exact]


def test_a_request_during_an_unload_waits_and_loads_anew() -> None:
    world = World()
    world.registry.release(world.use("a", keep_alive_s=0))
    number, _ = world.ask("a")
    assert number not in world.answers
    world.run()
    answer = world.answers[number]
    assert isinstance(answer, FakeModel)
    assert not answer.is_unloaded
    assert world.loads == ["a", "a"]


def test_the_idle_model_with_the_shortest_keep_alive_makes_room() -> None:
    world = World(max_loaded=2)
    world.registry.release(world.use("a", keep_alive_s=100))
    world.registry.release(world.use("b", keep_alive_s=50))
    world.use("c")
    assert world.paths == ["a", "c"]
    assert world.most_live == 2


def test_of_equals_the_least_recently_used_makes_room() -> None:
    world = World(max_loaded=2)
    for path in ("a", "b", "a"):
        world.registry.release(world.use(path))
    world.use("c")
    assert world.paths == ["a", "c"]


def test_a_busy_model_is_never_evicted_and_requests_queue() -> None:
    world = World(max_loaded=1, max_queue=2)
    busy = world.use("a")
    number, _ = world.ask("b")
    other, _ = world.ask("c")
    world.run()
    assert world.paths == ["a"]
    with pytest.raises(EngineBusyError):
        world.ask("d")
    world.registry.release(world.use("a"))  # who finds it loaded never queues
    assert number not in world.answers
    assert other not in world.answers
    world.registry.release(busy)
    world.run()
    assert world.paths == ["b"]


def test_the_queue_moves_on_when_the_busy_model_is_done() -> None:
    world = World(max_loaded=1)
    busy = world.use("a")
    b, b_ticket = world.ask("b")
    c, _ = world.ask("c")
    world.registry.release(busy)
    world.run()
    assert isinstance(world.answers[b], FakeModel)
    assert c not in world.answers
    world.registry.release(b_ticket)
    world.run()
    assert isinstance(world.answers[c], FakeModel)
    assert world.most_live == 1


def test_a_wait_can_be_given_up() -> None:
    world = World(max_loaded=1)
    busy = world.use("a")
    b, b_ticket = world.ask("b")
    c, _ = world.ask("c")
    world.registry.release(b_ticket)
    world.registry.release(busy)
    world.run()
    assert b not in world.answers
    assert isinstance(world.answers[c], FakeModel)
    assert world.loads == ["a", "c"]


def test_giving_up_during_a_load_leaves_an_idle_model() -> None:
    world = World(keep_alive_s=10)
    number, ticket = world.ask("a")
    world.registry.release(ticket)
    world.run()
    assert number not in world.answers
    assert world.registry.expire() == 10


def test_short_memory_sends_idle_models_away_and_tries_again() -> None:
    world = World()
    world.registry.release(world.use("a", keep_alive_s=math.inf))
    world.failures["b"] = InsufficientMemoryError("too large")
    world.use("b")
    assert world.paths == ["b"]
    world.failures["c"] = InsufficientMemoryError("too large")
    number, _ = world.ask("c")
    world.run()
    assert isinstance(world.answers[number], InsufficientMemoryError)


def test_a_load_waits_for_the_memory_of_a_model_that_leaves() -> None:
    world = World()
    world.registry.release(world.use("a", keep_alive_s=0))
    number, _ = world.ask("b")
    assert len(world.spawned) == 1, "a's unload alone"
    world.run()
    assert isinstance(world.answers[number], FakeModel)
    assert world.most_live == 1


def test_short_memory_during_an_unload_is_no_failure() -> None:
    world = World()
    leaving = world.use("a", keep_alive_s=0)
    numbers = [world.ask("b")[0] for _ in range(2)]
    world.failures["b"] = InsufficientMemoryError("too large")
    world.registry.release(leaving)
    world.run()
    assert all(isinstance(world.answers[number], FakeModel) for number in numbers)
    assert world.loads == ["a", "b", "b"]
    assert world.paths == ["b"]


def test_a_load_that_can_not_be_started_fails() -> None:
    world = World()

    def no_thread(call: Callable[[], None]) -> None:
        raise InsufficientMemoryError("there is not enough memory to load this model")

    world.registry._spawn = no_thread
    number, _ = world.ask("a")
    assert isinstance(world.answers[number], InsufficientMemoryError)
    world.registry._spawn = world.spawned.append
    world.use("a")


def test_close_ends_waits_and_models() -> None:
    world = World(max_loaded=2)
    world.use("a")
    loading, _ = world.ask("b")
    queued, _ = world.ask("c")
    world.registry.close()
    assert isinstance(world.answers[loading], EngineShutdownError)
    assert isinstance(world.answers[queued], EngineShutdownError)
    world.run()
    assert world.paths == []
    with pytest.raises(EngineShutdownError):
        world.ask("a")


def test_loads_take_turns() -> None:
    world = World()
    first, _ = world.ask("a")
    second, _ = world.ask("b")
    assert len(world.spawned) == 1
    world.run()
    assert {first, second} <= world.answers.keys()
    assert world.loads == ["a", "b"]


def test_a_load_does_not_block_those_who_use_another_model() -> None:
    """With real threads: while one model loads, requests for one that is there are served."""
    may_load = threading.Event()
    threads: list[threading.Thread] = []

    def load(ref: ModelRef) -> str:
        if ref.path == "slow":
            assert may_load.wait(60)
        return ref.path

    def spawn(call: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=call))
        threads[-1].start()

    registry: Registry[str] = Registry(
        load=load, unload=lambda model: None, spawn=spawn, clock=lambda: 0.0, keep_alive_s=10
    )
    slow, first, second = threading.Event(), threading.Event(), threading.Event()
    there = ModelRef(name="there", path="there")
    registry.acquire(there, keep_alive_s=None, on_ready=lambda ready: first.set())
    assert first.wait(60)
    registry.acquire(ModelRef(name="slow", path="slow"), keep_alive_s=None, on_ready=lambda ready: slow.set())
    registry.acquire(there, keep_alive_s=None, on_ready=lambda ready: second.set())
    assert second.wait(60)
    assert not slow.is_set()
    may_load.set()
    assert slow.wait(60)
    for thread in threads:
        thread.join()


def test_a_model_leaves_where_no_thread_can_be_started() -> None:
    """What is short then is what its end gives back."""
    world = World(max_loaded=1)
    world.registry.release(world.use("a"))

    def no_thread(call: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    world.registry._spawn = no_thread
    refused, _ = world.ask("b")
    assert world.live == []
    answer = world.answers[refused]
    assert isinstance(answer, ModelLoadError)
    world.registry._spawn = world.spawned.append
    world.use("a")
