"""A context that is full slides on, if the request allows it."""

import pytest
from transformers import PreTrainedModel

from hugging_llama.neutral.events import Finished, FinishReason
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import Inbox, make_loop, make_sequence, run_until
from tests.engine.tiny_models import LONGROPE_SWITCH, generate_greedy, make_model

PROMPT = list(range(20, 32))

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


@pytest.mark.parametrize("num_draft_tokens", [0, 4])
@pytest.mark.parametrize("num_keep", [0, 4, -1])
def test_half_of_what_follows_the_kept_tokens_is_dropped(
    model: PreTrainedModel, num_keep: int, num_draft_tokens: int
) -> None:
    original, inbox = make_model("llama"), Inbox()
    loop = make_loop(model, inbox)
    params = SamplingParams(temperature=0.0, max_tokens=50, num_keep=num_keep, num_draft_tokens=num_draft_tokens)
    sequence = make_sequence(1, PROMPT, params, context_length=24, shift=True)
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    (end,) = inbox.ends(sequence.key)
    assert (end.reason, len(sequence.output_token_ids)) == (FinishReason.LENGTH, 50)
    kept = len(PROMPT) if num_keep < 0 else num_keep
    context, dropped = list(PROMPT), 0
    output: list[int] = []
    while len(output) < 50:
        size = min(24 - len(context), 50 - len(output))
        new = generate_greedy(original, context, size)
        output += new
        context += new
        if len(output) < 50:
            half = (24 - kept) // 2
            context = context[:kept] + context[kept + half :]
            dropped += half
    assert sequence.output_token_ids == output
    assert sequence.num_truncated_tokens == dropped > 0
    loop.close()


def test_without_shift_the_context_ends_the_text(model: PreTrainedModel) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox)
    sequence = make_sequence(1, PROMPT, SamplingParams(temperature=0.0), context_length=24)
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    (end,) = inbox.ends(sequence.key)
    assert isinstance(end, Finished)
    assert (end.reason, len(sequence.output_token_ids)) == (FinishReason.LENGTH, 12)
    loop.close()


def test_a_context_that_is_all_kept_can_not_shift(model: PreTrainedModel) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox)
    params = SamplingParams(temperature=0.0, num_keep=-1)
    sequence = make_sequence(1, PROMPT, params, context_length=len(PROMPT) + 2, shift=True)
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    (end,) = inbox.ends(sequence.key)
    assert (end.reason, len(sequence.output_token_ids)) == (FinishReason.LENGTH, 2)
    loop.close()


def test_a_longrope_context_that_shifts_back_below_the_line_is_computed_anew() -> None:
    model, original, inbox = make_model("phi3_longrope"), make_model("phi3_longrope"), Inbox()
    loop = make_loop(model, inbox, max_num_batched_tokens=64)
    params = SamplingParams(temperature=0.0, max_tokens=40, num_keep=10)
    sequence = make_sequence(1, PROMPT, params, context_length=LONGROPE_SWITCH + 6, shift=True)
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    context = list(PROMPT)
    output: list[int] = []
    while len(output) < 40:
        output += generate_greedy(original, context, 1)
        context.append(output[-1])
        if len(context) == LONGROPE_SWITCH + 6:
            del context[10 : 10 + (len(context) - 10) // 2]
    assert sequence.output_token_ids == output
    loop.close()
