"""What a sequence says of itself: how far it may go, and what did not fit."""

from hugging_llama.neutral.events import Finished, FinishReason, Started, TextDelta
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import make_sequence


def test_a_shifting_context_ends_after_ten_of_them() -> None:
    free = SamplingParams()
    assert make_sequence(1, [1], free, context_length=50, shift=True).max_tokens == 500
    assert make_sequence(1, [1], free, context_length=50).max_tokens is None
    assert make_sequence(1, [1], SamplingParams(max_tokens=7), context_length=50, shift=True).max_tokens == 7


def test_a_cut_prompt_is_told_first_and_counted_at_the_end() -> None:
    sequence = make_sequence(1, [1, 2], num_truncated_tokens=30)
    assert sequence.append_token(5, 1) == [
        Started(num_prompt_tokens=2, num_cached_tokens=0, num_truncated_tokens=30),
        TextDelta("5 "),
    ]
    assert sequence.append_token(6, 2) == [TextDelta("6 ")]
    sequence.num_truncated_tokens += 12  # the context has shifted
    end = sequence.finished_event(FinishReason.STOP)
    assert isinstance(end, Finished)
    assert end.usage.num_truncated_tokens == 42


def test_a_cut_prompt_is_told_even_if_there_is_no_answer() -> None:
    sequence = make_sequence(1, [1], num_truncated_tokens=3, eos_token_ids=frozenset([9]))
    assert sequence.append_token(9, 1) == [Started(num_prompt_tokens=1, num_cached_tokens=0, num_truncated_tokens=3)]
    assert make_sequence(1, [1], eos_token_ids=frozenset([9])).append_token(9, 1) == []
