"""Several answers in one stream, whatever the engine does first."""

import threading

import pytest

from hugging_llama.client.streams import QueueStream, Waits
from hugging_llama.errors import GenerationError
from hugging_llama.neutral.events import Finished, FinishReason, GenerateEvent, Progress, TextDelta
from hugging_llama.operations.choices import Choices

WAIT_S = 30.0
PATIENT = Waits(WAIT_S, WAIT_S)
END = Finished(reason=FinishReason.STOP)


def streams(number: int, waits: Waits = PATIENT) -> list[QueueStream[GenerateEvent]]:
    return [QueueStream(waits, lambda: None, generates=True) for _ in range(number)]


def say(stream: QueueStream[GenerateEvent], *events: GenerateEvent) -> None:
    for event in events:
        stream.put(event)


def test_one_that_waits_for_its_place_holds_up_none() -> None:
    first, second = both = streams(2)
    choices = Choices(list(both))
    said = [TextDelta(str(number)) for number in range(5)]
    say(first, Progress(phase="prompt"), *said, END)
    assert [next(choices) for _ in range(7)] == [(0, event) for event in [Progress(phase="prompt"), *said, END]]
    say(second, TextDelta("x"), END)
    assert list(choices) == [(1, TextDelta("x")), (1, END)]


def test_those_that_have_something_to_say_take_turns() -> None:
    both = streams(2)
    for stream in both:
        say(stream, *map(TextDelta, "abc"), END)
    assert [(index, type(event)) for index, event in Choices(list(both))] == [
        *[(0, TextDelta), (1, TextDelta)] * 3,
        (0, Finished),
        (1, Finished),
    ]


def test_one_that_ends_makes_nobody_wait_for_one_that_has_no_place() -> None:
    first, second, third = all_three = streams(3)
    choices = Choices(list(all_three))
    say(first, TextDelta("a"), END)
    say(second, TextDelta("b"))
    assert [next(choices) for _ in range(3)] == [(0, TextDelta("a")), (1, TextDelta("b")), (0, END)]
    say(second, TextDelta("c"), END)
    assert [next(choices) for _ in range(2)] == [(1, TextDelta("c")), (1, END)]
    say(third, END)
    assert list(choices) == [(2, END)]


def test_one_that_falls_silent_holds_up_none() -> None:
    first, second = both = streams(2)
    choices = Choices(list(both))
    say(first, TextDelta("a"))
    assert next(choices) == (0, TextDelta("a"))
    said = [TextDelta(str(number)) for number in range(100)]
    threading.Timer(0.05, say, (second, *said, END)).start()
    assert [next(choices) for _ in range(101)] == [(1, event) for event in [*said, END]]
    threading.Timer(0.05, say, (first, END)).start()
    assert list(choices) == [(0, END)]


def test_nobody_says_anything_for_too_long() -> None:
    first, second = both = streams(2, Waits(WAIT_S, 0.05))
    choices = Choices(list(both))
    say(first, TextDelta("a"))
    assert next(choices) == (0, TextDelta("a"))
    with pytest.raises(GenerationError, match=r"no event came from the engine within 0\.05 s"):
        next(choices)
    assert second.is_ready
    assert list(choices) == []


def test_an_error_of_one_ends_all() -> None:
    all_three = streams(3)
    choices = Choices(list(all_three))
    all_three[1].put(GenerationError("no"))
    with pytest.raises(GenerationError, match="no"):
        next(choices)
    assert list(choices) == []
    assert all(stream.is_ready for stream in all_three)


def test_a_close_ends_who_waits() -> None:
    both = streams(2)
    choices = Choices(list(both))
    both[0].put(TextDelta("a"))
    assert next(choices) == (0, TextDelta("a"))
    threading.Timer(0.05, choices.close).start()
    assert list(choices) == []
