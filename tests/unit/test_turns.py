"""Turns between callers: nobody waits for all of somebody else's requests, and alone a caller sees a plain queue."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.engine.progress import ProgressMeter
from hugging_llama.engine.queue_pace import QueuePace
from hugging_llama.engine.turns import CallerQueue, fair_shares
from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama.neutral.events import Progress, Queued

A, B, C = Caller("a"), Caller("b"), Caller("c")
LOW, HIGH = Caller("low"), Caller("high", priority=1)

Item = tuple[Caller, int]
callers = st.builds(Caller, st.sampled_from("abc"), st.integers(0, 2))


def make_queue(*items: Item) -> CallerQueue[Item]:
    queue = CallerQueue[Item](lambda item: item[0])
    for item in items:
        queue.append(item)
    return queue


def take(queue: CallerQueue[Item], held: Counter[Caller] | None = None) -> Item:
    item = queue.first(held or Counter())
    assert item is not None
    queue.take(item)
    return item


def take_all(queue: CallerQueue[Item]) -> list[Item]:
    return [take(queue) for _ in range(len(queue))]


def many(caller: Caller, count: int) -> list[Item]:
    return [(caller, number) for number in range(count)]


def test_two_callers_alternate_and_each_keeps_its_order() -> None:
    queue = make_queue(*many(A, 200), *many(B, 3))
    assert take_all(queue)[:7] == [(A, 0), (B, 0), (A, 1), (B, 1), (A, 2), (B, 2), (A, 3)]


def test_who_comes_later_has_the_next_turn() -> None:
    queue = make_queue(*many(A, 200))
    assert [take(queue) for _ in range(5)] == many(A, 5)
    queue.append((B, 0))
    assert take(queue) == (B, 0)
    assert take(queue) == (A, 5)


def test_places_that_are_held_count() -> None:
    """Who holds all places for long has no claim to the next one as well."""
    queue, held = make_queue(*many(A, 200), *many(B, 10)), Counter({A: 4})
    order = []
    for _ in range(8):
        item = take(queue, held)
        held[item[0]] += 1
        order.append(item[0])
    assert order == [B, B, B, B, A, B, A, B]


def test_sending_two_at_a_time_is_no_way_to_more_turns() -> None:
    queue = make_queue(*many(A, 300))
    taken: Counter[Caller] = Counter()
    for number in range(300):
        if number % 3 == 0:
            queue.append((B, number))
            queue.append((B, number + 1))
        taken[take(queue)[0]] += 1
    assert abs(taken[A] - taken[B]) <= 1


def test_a_higher_priority_goes_first_and_a_lower_one_is_not_forgotten() -> None:
    queue = make_queue(*many(LOW, 5), *many(HIGH, 100))
    order = [caller for caller, _ in take_all(queue)]
    assert order[:9] == [HIGH] * 8 + [LOW]
    assert order[:45].count(LOW) == 5


def test_of_several_lower_ones_each_has_its_turn() -> None:
    lower = [Caller(f"low-{number}", priority=-number) for number in range(4)]
    queue = make_queue(*many(HIGH, 100), *((caller, 0) for caller in lower))
    order = [caller for caller, _ in take_all(queue)]
    assert {order[8], order[17], order[26], order[35]} == set(lower)


@given(st.lists(st.tuples(callers, st.integers())), st.dictionaries(callers, st.integers(0, 3)))
def test_what_is_foretold_comes_true(items: list[Item], places: dict[Caller, int]) -> None:
    queue, held = make_queue(*items), Counter(places)
    foretold = list(queue.in_turn(held))
    found = []
    while queue:
        item = take(queue, held)
        held[item[0]] += 1
        found.append(item)
    assert found == foretold
    assert Counter(found) == Counter(items)


@given(st.lists(st.sampled_from(["append", "take", "put back", "keep first"]), max_size=60))
def test_alone_it_is_a_plain_queue(actions: list[str]) -> None:
    queue, plain = make_queue(), list[Item]()
    for number, action in enumerate(actions):
        item = (ANONYMOUS, number)
        if action == "append":
            queue.append(item)
            plain.append(item)
        elif action == "put back":
            queue.put_back(item)
            plain.insert(0, item)
        elif plain and action == "take":
            assert take(queue) == plain.pop(0)
        elif plain:
            queue.keep_first(plain[0])
        assert list(queue.in_turn()) == list(queue) == plain
        assert (len(queue), bool(queue)) == (len(plain), bool(plain))


def test_whose_turn_has_come_is_not_overtaken_and_has_had_it() -> None:
    queue = make_queue(*many(A, 3))
    take(queue)
    queue.keep_first((A, 1))
    queue.append((B, 0))
    queue.put_back((C, 7))
    assert [take(queue) for _ in range(4)] == [(C, 7), (A, 1), (B, 0), (A, 2)]


def test_a_full_queue_has_a_place_for_who_has_none_in_it() -> None:
    queue = make_queue(*many(A, 4))
    assert not queue.has_room(A, 4)
    assert queue.has_room(B, 4)
    assert queue.has_room(A, 5)
    for number in range(4):
        queue.append((Caller(str(number)), 0))
    assert not queue.has_room(B, 4), "a flood of names has an end, too"
    assert not make_queue().has_room(A, 0)


def test_who_leaves_is_gone() -> None:
    queue = make_queue(*many(A, 2), (B, 0))
    queue.remove((A, 0))
    queue.remove((B, 0))
    with pytest.raises(ValueError, match="not"):
        queue.remove((B, 0))
    assert take_all(queue) == [(A, 1)]
    assert queue.first() is None


@given(st.integers(0, 200), st.dictionaries(callers, st.integers(0, 100), max_size=6))
def test_shares_are_all_there_is_and_nobody_has_less_than_a_fair_one(total: int, wanted: dict[Caller, int]) -> None:
    shares = fair_shares(total, wanted)
    assert sum(shares.values()) == min(total, sum(wanted.values()))
    for caller, share in shares.items():
        assert 0 <= share <= wanted[caller]
        if share < wanted[caller]:
            assert share >= max(shares.values()) - 1
            assert share >= total // len(wanted)


def test_the_pace_of_a_queue() -> None:
    pace = QueuePace(4)
    assert pace.retry_after_s(100) == 5.0
    for _ in range(3):
        pace.observe(8.0)
    assert pace.retry_after_s(1) == 2.0
    assert pace.retry_after_s(10) == 20.0
    assert pace.retry_after_s(512) == 60.0
    for _ in range(50):
        pace.observe(0.4)
    assert pace.retry_after_s(10) == pytest.approx(1.0, rel=0.01)
    assert (pace.expected_s(1), pace.expected_s(20)) == (0.1, 2.0)
    assert pace.at(20) == Queued(position=20, expected_s=2.0)
    assert QueuePace(4).expected_s(3) == 0.0, "nobody knows"
    for _ in range(50):
        pace.observe(0.001)
    assert pace.expected_s(1) == 0.1, "it is known, if short"
    error = pace.busy("full", 7, 10)
    assert error.facts == {"queue_depth": 7, "retry_after_s": pace.retry_after_s(10)}


def test_progress_is_told_when_it_is_news_and_not_too_often() -> None:
    meter = ProgressMeter(interval_ns=100)
    assert meter.in_queue(3, 1000) == [Progress(phase="queue", position=3)]
    assert meter.in_queue(2, 1050) == []
    assert meter.in_queue(2, 1100) == [Progress(phase="queue", position=2)]
    assert meter.in_queue(2, 9000) == []
    assert meter.in_queue(2, 1100 + 10**10) == [Progress(phase="queue", position=2)], "after ten seconds once more"
    assert meter.in_queue(2, 2 * 10**10, 1.5) == [Progress(phase="queue", position=2, expected_s=1.5)]
    assert meter.in_prompt(0, 50, 9001) == [Progress(phase="prompt", completed=0, total=50)]
    assert meter.in_prompt(16, 50, 9002) == []
    assert meter.in_prompt(48, 50, 9101) == [Progress(phase="prompt", completed=48, total=50)]
