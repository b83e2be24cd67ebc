"""Several answers in one stream, whatever the engine does first."""

import threading

import pytest

from hugging_llama.client.streams import QueueStream, Waits
from hugging_llama.errors import GenerationError
from hugging_llama.neutral.events import Finished, FinishReason, GenerateEvent, Progress, TextDelta
from hugging_llama.operations.choices import Choices

AT_ONCE = Waits(0.05, 0.05)
WAIT_S = 30.0
END = Finished(reason=FinishReason.STOP)


def streams(number: int, waits: Waits = AT_ONCE) -> list[QueueStream[GenerateEvent]]:
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


def test_who_spoke_last_is_waited_for_and_the_others_when_it_has_ended() -> None:
    first, second = both = streams(2, Waits(WAIT_S, WAIT_S))
    choices = Choices(list(both))
    say(second, TextDelta("a"), TextDelta("b"), END)
    assert [next(choices)[0] for _ in range(3)] == [1, 1, 1]
    threading.Timer(0.05, say, (first, TextDelta("late"), END)).start()
    assert list(choices) == [(0, TextDelta("late")), (0, END)]


def test_an_error_of_one_ends_all() -> None:
    both = streams(3)
    choices = Choices(list(both))
    both[1].put(GenerationError("no"))
    with pytest.raises(GenerationError, match="no"):
        next(choices)
    assert list(choices) == []
    assert all(stream.is_ready for stream in both)


def test_a_close_ends_who_waits() -> None:
    both = streams(2, Waits(WAIT_S, WAIT_S))
    choices = Choices(list(both))
    both[0].put(TextDelta("a"))
    assert next(choices) == (0, TextDelta("a"))
    threading.Timer(0.05, choices.close).start()
    assert list(choices) == []
