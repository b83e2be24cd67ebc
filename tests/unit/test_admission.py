"""Which models may be loaded, and who leaves for them: the rule, and the registry that follows it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.engine.admission import Decision, MemoryNeed, Verdict, decide
from hugging_llama.errors import EngineShutdownError, InsufficientMemoryError, ModelLoadError
from tests.unit.registry_world import FakeModel, World


def _world(memory: int = 100, **needs: int) -> World:
    return World(memory=memory, max_loaded=10, needs={path: (size, size) for path, size in needs.items()})


@pytest.mark.parametrize(
    ("need", "free", "idle", "busy", "expected"),
    [
        ((10, 10), 10, [], 0, Decision(Verdict.LOAD, 0, 10)),
        ((11, 11), 10, [], 0, Decision(Verdict.REFUSE, 0, 10, is_final=True)),
        ((11, 11), 10, [5, 5], 0, Decision(Verdict.EVICT, 1, 20)),
        ((16, 16), 10, [5, 5], 0, Decision(Verdict.EVICT, 2, 20)),
        ((21, 21), 10, [5, 5], 0, Decision(Verdict.REFUSE, 0, 20, is_final=True)),
        ((21, 21), 10, [5, 5], 1, Decision(Verdict.WAIT, 0, 21)),
        ((22, 22), 10, [5, 5], 1, Decision(Verdict.REFUSE, 0, 21)),
        ((30, 10), 10, [5, 5], 50, Decision(Verdict.LOAD, 0, 70)),
        ((20, 10), 10, [5, 5], 0, Decision(Verdict.EVICT, 2, 20)),
        ((30, 12), 10, [5, 5], 0, Decision(Verdict.EVICT, 1, 20)),
    ],
)
def test_the_rule(need: tuple[int, int], free: int, idle: list[int], busy: int, expected: Decision) -> None:
    assert decide(MemoryNeed(*need), free_bytes=free, idle_bytes=idle, busy_bytes=busy) == expected


def test_what_fits_leaves_others_alone() -> None:
    world = _world(a=50, b=50)
    world.registry.release(world.use("a"))
    world.use("b")
    assert world.paths == ["a", "b"]


def test_exactly_as_many_idle_models_leave_as_are_needed() -> None:
    world = _world(a=20, b=20, c=20, d=20, big=55)
    for path, keep_alive_s in (("a", 40), ("b", 10), ("c", 20), ("d", 30)):
        world.registry.release(world.use(path, keep_alive_s=keep_alive_s))
    world.use("big")
    assert world.paths == ["a", "big", "d"], "those that are kept for the shortest time left"


def test_what_could_never_fit_is_refused_with_both_numbers_and_nobody_leaves() -> None:
    world = _world(a=30, big=101)
    world.registry.release(world.use("a"))
    number, _ = world.ask("big")
    world.run()
    error = world.answers[number]
    assert isinstance(error, InsufficientMemoryError)
    assert error.facts == {"need_bytes": 101, "free_bytes": 100}
    assert "model requires more system memory" in error.message
    assert world.paths == ["a"]
    assert world.loads == ["a"]
    assert [row.ref.path for row in world.registry.residents()] == ["a"]


def test_a_load_waits_for_busy_models_and_others_are_served_meanwhile() -> None:
    world = _world(a=60, b=30, big=90)
    a, b = world.use("a"), world.use("b")
    number, _ = world.ask("big")
    world.run()
    assert number not in world.answers
    assert world.registry.num_waiting == 1
    assert {row.ref.path: row.model is None for row in world.registry.residents()}["big"]
    world.registry.release(world.use("a"))
    world.registry.release(b)
    world.run()
    assert world.paths == ["a", "b"], "b alone would not be enough"
    world.registry.release(a)
    world.run()
    assert isinstance(world.answers[number], FakeModel)
    assert world.paths == ["big"]


def test_a_load_waits_for_what_forwards_hold_and_begins_without_a_word_of_them() -> None:
    world = _world(a=60)
    world.passing = 50
    number, _ = world.ask("a")
    world.run()
    assert number not in world.answers
    assert world.num_alarms == 1
    assert world.registry.expire() == 1
    assert not world.spawned
    world.passing = 0
    world.registry.expire()
    world.run()
    assert isinstance(world.answers[number], FakeModel)
    assert world.registry.expire() == math.inf, "nothing is looked at again and again for nothing"


def test_a_short_dip_refuses_no_load_that_waits() -> None:
    world = _world(a=60, big=90)
    a = world.use("a")
    number, _ = world.ask("big")
    world.run()
    world.dip = 15
    world.registry.expire()
    assert number not in world.answers
    world.dip = 0
    world.registry.release(a)
    world.run()
    assert isinstance(world.answers[number], FakeModel)


def test_a_load_that_waited_for_forwards_in_vain_is_refused_after_them() -> None:
    world = _world(a=60)
    world.passing = 50
    number, _ = world.ask("a")
    world.run()
    world.passing, world.dip = 0, 50
    world.registry.expire()
    assert isinstance(world.answers[number], InsufficientMemoryError)


def test_what_was_promised_to_forwards_makes_no_room_beyond_all_memory() -> None:
    world = _world(big=101)
    world.passing, world.dip = 50, -50
    number, _ = world.ask("big")
    world.run()
    assert isinstance(world.answers[number], InsufficientMemoryError)


def test_a_load_waits_while_memory_can_not_be_measured() -> None:
    world = _world(a=60)
    world.dip = None
    number, _ = world.ask("a")
    world.run()
    assert world.registry.expire() == 1
    assert number not in world.answers
    world.dip = 0
    world.registry.expire()
    world.run()
    assert isinstance(world.answers[number], FakeModel)


def test_a_wait_for_memory_can_be_given_up() -> None:
    world = _world(a=60, big=90, c=30)
    world.use("a")
    number, ticket = world.ask("big")
    behind, _ = world.ask("c")
    world.run()
    assert behind not in world.answers
    world.registry.release(ticket)
    world.run()
    assert number not in world.answers
    assert isinstance(world.answers[behind], FakeModel)
    assert world.paths == ["a", "c"]
    assert world.registry.num_waiting == 0


def test_with_less_memory_the_model_is_loaded_all_the_same_for_a_shorter_context() -> None:
    world = _world()
    world.needs = {"a": (200, 40), "b": (80, 50)}
    world.registry.release(world.use("a"))
    world.use("b", 1.0)
    assert world.paths == ["b"], "the idle one leaves for the whole need"
    number, _ = world.ask("a")
    world.run()
    assert number not in world.answers, "20 are free, 40 are the least, and b is busy"


def test_the_context_that_is_asked_for_counts() -> None:
    world = _world(a=10, b=10)
    world.ask("a", context_length=8192)
    world.ask("b")
    world.run()
    assert world.contexts == [8192, None]


def test_memory_that_does_not_come_back_costs_another_model_or_the_load() -> None:
    world = _world(a=40, b=40, big=60)
    world.registry.release(world.use("a", keep_alive_s=1))
    world.registry.release(world.use("b", keep_alive_s=2))
    number, _ = world.ask("big")
    world.spawned.pop(0)()
    world.memory = 75  # somebody else takes what a is about to give back
    world.run()
    assert isinstance(world.answers[number], FakeModel)
    assert world.paths == ["big"]


def test_a_need_that_can_not_be_found_out_fails_the_load() -> None:
    world = _world(memory=100)
    number, _ = world.ask("unknown")
    world.run()
    assert isinstance(world.answers[number], ModelLoadError)
    assert world.registry.residents() == []


@pytest.mark.parametrize("steps", [0, 1])
def test_close_ends_a_wait_for_memory(steps: int) -> None:
    world = _world(a=60, big=90)
    world.use("a")
    number, _ = world.ask("big")
    for _ in range(steps):  # 0: before it is known what it needs
        world.spawned.pop(0)()
    world.registry.close()
    assert isinstance(world.answers[number], EngineShutdownError)
    world.run()
    assert world.live == []
    assert world.registry.residents() == []
    assert world.loads == ["a"]


@given(st.data())
def test_every_request_is_answered_and_memory_is_never_exceeded(data: st.DataObject) -> None:
    """Any mix of requests, ends and threads that take their time; `World.load` asserts that there is room."""
    sizes = data.draw(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 120), min_size=1))
    world = World(memory=100, max_loaded=4, needs={path: (size, max(size // 2, 1)) for path, size in sizes.items()})
    open_tickets = []
    for _ in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["ask", "run", "release"]))
        if action == "ask":
            open_tickets.append(world.ask(data.draw(st.sampled_from(sorted(sizes)))))
        elif action == "run" and world.spawned:
            world.spawned.pop(data.draw(st.integers(0, len(world.spawned) - 1)))()
        elif open_tickets and action == "release":
            world.registry.release(open_tickets.pop(data.draw(st.integers(0, len(open_tickets) - 1)))[1])
        assert world.free >= 0
    world.run()
    while waiting := [pair for pair in open_tickets if pair[0] not in world.answers]:
        done = [pair for pair in open_tickets if pair[0] in world.answers]
        assert done, f"{len(waiting)} requests wait for ever"
        for number, ticket in done:
            world.registry.release(ticket)
            open_tickets.remove((number, ticket))
        world.run()
    for answer in world.answers.values():  # no ModelLoadError: it would be the assertion of `World.load`
        assert isinstance(answer, FakeModel) or answer.facts["need_bytes"] > 100
