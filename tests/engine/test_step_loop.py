"""Every accepted sequence ends exactly once, whatever happens around it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from hugging_llama.engine.batch import Batch
from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.grammars.bits import Bits, forbid
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.engine.sequence import Sequence, StepEvents
from hugging_llama.engine.step_watch import StepClock
from hugging_llama.errors import (
    ContextLengthError,
    EngineBusyError,
    EngineShutdownError,
    GenerationError,
    HuggingLlamaError,
    InsufficientMemoryError,
    InvalidRequestError,
)
from hugging_llama.neutral.events import Finished, FinishReason
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import GREEDY, Echo, Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import VOCAB_SIZE, make_model

FOREVER = SamplingParams(temperature=0.0)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def loop(model: PreTrainedModel, inbox: Inbox) -> Iterator[StepLoop]:
    loop = make_loop(model, inbox)
    yield loop
    loop.close()


def reason(inbox: Inbox, sequence: Sequence) -> FinishReason:
    (end,) = inbox.ends(sequence.key)
    assert isinstance(end, Finished)
    assert inbox.events(sequence.key)[-1] is end
    result: FinishReason = end.reason
    return result


def error(inbox: Inbox, sequence: Sequence) -> HuggingLlamaError:
    (end,) = inbox.ends(sequence.key)
    assert isinstance(end, HuggingLlamaError)
    return end


def test_tokens_come_as_events_and_usage_at_the_end(loop: StepLoop, inbox: Inbox) -> None:
    sequence = make_sequence(1, [5, 6, 7], GREEDY, load_ns=5, return_context=True)
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    assert reason(inbox, sequence) is FinishReason.LENGTH
    assert inbox.text(sequence.key) == "".join(f"{token} " for token in sequence.output_token_ids) + "end"
    finished = inbox.ends(sequence.key)[0]
    assert finished.context == (5, 6, 7, *sequence.output_token_ids)
    usage = finished.usage
    assert (usage.num_prompt_tokens, usage.num_output_tokens, usage.num_cached_tokens) == (3, 8, 0)
    assert usage.load_ns == 5
    assert min(usage.queue_ns, usage.prompt_ns, usage.decode_ns) > 0
    assert inbox.finished == [sequence]
    stats = loop.stats()
    assert (stats.prompt_tokens_total, stats.output_tokens_total, stats.steps_total) == (3, 8, 8)


def test_one_step_is_one_frame_for_all_sequences(loop: StepLoop, inbox: Inbox) -> None:
    for i in range(4):
        loop.submit(make_sequence(i, [5, 6], GREEDY))
    loop.run_once()
    assert [[key for key, _ in frame] for frame in inbox.frames] == [[(1, 0), (1, 1), (1, 2), (1, 3)]]
    assert loop.stats().max_batch_size == 4
    run_until(loop, inbox, 4)
    assert loop.stats().step_sequences_total == 32


def test_end_of_sequence_is_not_shown(loop: StepLoop, inbox: Inbox) -> None:
    first = make_sequence(1, [5, 6, 7], GREEDY)
    loop.submit(first)
    run_until(loop, inbox, 1)
    eos = first.output_token_ids[3]
    shown = first.output_token_ids[: first.output_token_ids.index(eos)]
    second = make_sequence(2, [5, 6, 7], GREEDY, eos_token_ids=frozenset({eos, 1}))
    loop.submit(second)
    run_until(loop, inbox, 2)
    assert reason(inbox, second) is FinishReason.STOP
    assert second.output.pushed == shown  # type: ignore[attr-defined]


def test_a_stop_string_ends_a_sequence(loop: StepLoop, inbox: Inbox) -> None:
    output = Echo(stop_ids=frozenset(range(VOCAB_SIZE)))
    sequence = make_sequence(1, [5, 6, 7], GREEDY, output=output)
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    assert reason(inbox, sequence) is FinishReason.STOP
    assert (len(output.pushed), output.num_flushed) == (1, 1)


def test_a_finished_grammar_ends_a_sequence(loop: StepLoop, inbox: Inbox) -> None:
    class TwoTokens:
        def __init__(self) -> None:
            self.accepted: list[int] = []

        def fill(self, bits: Bits) -> bool:
            forbid(bits, list(range(300)))
            return True

        def forced(self) -> list[int]:
            return [299, 5]  # wrong: it is not what the mask allows

        def accept(self, token_id: int) -> None:
            self.accepted.append(token_id)

        @property
        def finished(self) -> bool:
            return len(self.accepted) == 2

    grammar = TwoTokens()
    sequence = make_sequence(1, [5], GREEDY, grammar=grammar)
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    assert reason(inbox, sequence) is FinishReason.STOP
    assert grammar.accepted == sequence.output_token_ids
    assert min(grammar.accepted) >= 300


def test_the_context_ends_a_sequence(loop: StepLoop, inbox: Inbox) -> None:
    sequences = [make_sequence(n, [5] * n, FOREVER, context_length=12) for n in (3, 12)]
    for sequence in sequences:
        loop.submit(sequence)
    run_until(loop, inbox, 2)
    assert [reason(inbox, sequence) for sequence in sequences] == [FinishReason.LENGTH] * 2
    assert [len(sequence.output_token_ids) for sequence in sequences] == [9, 1]


@pytest.mark.parametrize("max_tokens", [0, -5])
def test_no_tokens_wanted(loop: StepLoop, inbox: Inbox, max_tokens: int) -> None:
    sequence = make_sequence(1, [5], SamplingParams(max_tokens=max_tokens))
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    assert reason(inbox, sequence) is FinishReason.LENGTH
    assert loop.stats().steps_total == 0


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [([], InvalidRequestError), ([VOCAB_SIZE], InvalidRequestError), ([-1], InvalidRequestError)],
)
def test_a_bad_prompt_is_refused(loop: StepLoop, inbox: Inbox, prompt: list[int], expected: type[Exception]) -> None:
    with pytest.raises(expected):
        loop.submit(make_sequence(1, prompt))
    loop.run_once()
    assert inbox.frames == []
    assert inbox.finished == []


def test_the_models_positions_bound_the_context(inbox: Inbox) -> None:
    loop = make_loop(make_model("gpt2"), inbox)
    with pytest.raises(ContextLengthError):
        loop.submit(make_sequence(1, [1] * 1025, context_length=5000))
    sequence = make_sequence(2, [1] * 1022, FOREVER, context_length=5000)
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    assert reason(inbox, sequence) is FinishReason.LENGTH
    assert sequence.num_tokens == 1024
    loop.close()


def test_a_prompt_beyond_the_context_is_refused(loop: StepLoop) -> None:
    with pytest.raises(ContextLengthError):
        loop.submit(make_sequence(1, [1] * 13, context_length=12))


def test_what_memory_can_hold_bounds_the_context(model: PreTrainedModel, inbox: Inbox) -> None:
    loop = make_loop(model, inbox, capacity_tokens=300)
    with pytest.raises(InsufficientMemoryError):
        loop.submit(make_sequence(1, [1] * 256, context_length=1000))
    sequence = make_sequence(2, [1] * 250, FOREVER, context_length=1000)
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    assert reason(inbox, sequence) is FinishReason.LENGTH
    assert sequence.num_tokens == 256
    loop.close()


def test_the_queue_is_bounded(model: PreTrainedModel, inbox: Inbox) -> None:
    loop = make_loop(model, inbox, max_num_seqs=1, max_queue=1)
    for i in range(2):
        loop.submit(make_sequence(i, [1]))
    with pytest.raises(EngineBusyError):
        loop.submit(make_sequence(3, [1]))
    run_until(loop, inbox, 2)
    assert inbox.events((1, 3)) == []
    loop.close()


def test_a_cancel_takes_effect_before_the_next_step(loop: StepLoop, inbox: Inbox) -> None:
    running, waiting = make_sequence(1, [5], FOREVER), make_sequence(2, [5], FOREVER)
    loop.submit(running)
    loop.run_once()
    loop.submit(waiting)
    loop.cancel(running.key)
    loop.cancel(waiting.key)
    loop.cancel((9, 9))
    loop.run_once()
    for sequence in (running, waiting):
        assert reason(inbox, sequence) is FinishReason.ABORT
        assert sequence.output.num_flushed == 0  # type: ignore[attr-defined]
    assert loop.stats().steps_total == 1
    assert loop.stats().cancelled_total == 2
    assert loop.stats().kv_used_tokens == 0
    loop.cancel(running.key)
    loop.run_once()
    assert len(inbox.finished) == 2


def test_a_lost_connection_cancels_its_sequences_only(loop: StepLoop, inbox: Inbox) -> None:
    lost = [make_sequence(i, [5], connection=1) for i in range(2)]
    kept = make_sequence(0, [5], connection=2)
    for sequence in (*lost, kept):
        loop.submit(sequence)
    loop.run_once()
    loop.cancel_connection(1)
    run_until(loop, inbox, 3)
    assert [reason(inbox, sequence) for sequence in lost] == [FinishReason.ABORT] * 2
    assert reason(inbox, kept) is FinishReason.LENGTH


def test_an_output_processor_that_raises_ends_its_sequence_only(loop: StepLoop, inbox: Inbox) -> None:
    bad, good = make_sequence(1, [5], output=Echo(fail_at=2)), make_sequence(2, [5])
    loop.submit(bad)
    loop.submit(good)
    run_until(loop, inbox, 2)
    assert isinstance(error(inbox, bad), GenerationError)
    assert reason(inbox, good) is FinishReason.LENGTH
    assert loop.stats().kv_used_tokens == 0


def test_a_flush_that_raises_is_an_error_not_two_ends(loop: StepLoop, inbox: Inbox) -> None:
    class BadFlush(Echo):
        def finish(self) -> list[Any]:
            raise InvalidRequestError("half a tool call")

    sequence = make_sequence(1, [5], output=BadFlush())
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    assert isinstance(error(inbox, sequence), InvalidRequestError)


def test_a_failing_forward_is_narrowed_down(loop: StepLoop, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ModelRunner.run

    def poisoned(runner: ModelRunner, batch: Batch) -> Any:
        if any(row.sequence.key == (1, 2) for row in batch.rows):
            raise RuntimeError("this one can't be computed")
        return real(runner, batch)

    prompts = make_prompts(5, longest=20)
    alone = [make_sequence(i, prompt) for i, prompt in enumerate(prompts)]
    for sequence in alone:
        loop.submit(sequence)
    run_until(loop, inbox, 5)
    monkeypatch.setattr(ModelRunner, "run", poisoned)
    again = [make_sequence(i, prompt) for i, prompt in enumerate(prompts)]
    inbox.frames.clear()
    for sequence in again:
        loop.submit(sequence)
    run_until(loop, inbox, 10)
    assert isinstance(error(inbox, again[2]), GenerationError)
    for i in (0, 1, 3, 4):
        assert again[i].output_token_ids == alone[i].output_token_ids


def test_a_failing_step_leaves_nobody_hanging(loop: StepLoop, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = [make_sequence(i, [5]) for i in range(7)]
    for sequence in sequences:
        loop.submit(sequence)
    with monkeypatch.context() as patch:
        patch.setattr("hugging_llama.engine.scheduler.Scheduler.schedule", lambda self: 1 / 0)
        loop.run_once()
    assert all(isinstance(error(inbox, sequence), GenerationError) for sequence in sequences)
    late = make_sequence(9, [5])
    loop.submit(late)
    run_until(loop, inbox, 8)
    assert reason(inbox, late) is FinishReason.LENGTH


def test_a_device_that_is_broken_for_good_leaves_nobody_hanging(
    loop: StepLoop, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    sequences = [make_sequence(i, [5], FOREVER) for i in range(4)]
    for sequence in sequences[:3]:
        loop.submit(sequence)
    with monkeypatch.context() as patch:
        patch.setattr(ModelRunner, "run", broken)
        patch.setattr(torch.Tensor, "zero_", broken)
        patch.setattr(torch.Tensor, "clone", broken)
        loop.start()
        loop.submit(sequences[3])
        inbox.wait_finished(4)
        cancelled = make_sequence(4, [5], FOREVER)
        loop.submit(cancelled)
        loop.cancel(cancelled.key)
        inbox.wait_finished(5)
    assert all(isinstance(error(inbox, sequence), GenerationError) for sequence in sequences)
    assert len(inbox.ends(cancelled.key)) == 1


def test_a_receiver_that_raises_does_not_stop_the_loop(model: PreTrainedModel) -> None:
    inbox = Inbox()

    def emit(events: StepEvents) -> None:
        if any(key == (1, 1) for key, _ in events):
            raise OSError("the socket is gone")
        inbox.emit(events)

    def on_finished(sequence: Sequence) -> None:
        inbox.on_finished(sequence)
        raise RuntimeError("the registry fails")

    loop = make_loop(model, inbox, emit=emit, on_finished=on_finished)
    loop.submit(make_sequence(1, [5]))
    run_until(loop, inbox, 1)
    loop.submit(make_sequence(2, [5]))
    run_until(loop, inbox, 2)
    assert len(inbox.ends((1, 2))) == 1
    loop.close()


def test_close_ends_all_and_accepts_no_more(loop: StepLoop, inbox: Inbox) -> None:
    sequences = [make_sequence(i, [5], FOREVER) for i in range(7)]
    for sequence in sequences:
        loop.submit(sequence)
    loop.run_once()
    loop.close()
    loop.close()
    assert [reason(inbox, sequence) for sequence in sequences] == [FinishReason.SHUTDOWN] * 7
    assert inbox.text(sequences[0].key).endswith("end")
    with pytest.raises(EngineShutdownError):
        loop.submit(make_sequence(8, [5]))


def test_the_thread_works_sleeps_and_ends(model: PreTrainedModel, inbox: Inbox) -> None:
    loop = make_loop(model, inbox)
    loop.start()
    loop.submit(make_sequence(1, [5]))
    inbox.wait_finished(1)
    endless = make_sequence(2, [5], SamplingParams(temperature=0.0, max_tokens=100_000), context_length=10_000)
    loop.submit(endless)
    inbox.wait_for_events(endless.key, 3)
    loop.cancel(endless.key)
    inbox.wait_finished(2)
    assert reason(inbox, endless) is FinishReason.ABORT
    loop.close()


@pytest.mark.parametrize(("num_tokens", "is_watched_by_layers"), [(600, True), (100, False)])
def test_a_long_step_is_watched_layer_by_layer(
    model: PreTrainedModel,
    inbox: Inbox,
    monkeypatch: pytest.MonkeyPatch,
    num_tokens: int,
    is_watched_by_layers: bool,
) -> None:
    """Of a prompt that can't be cut the whole may take longer than any step may."""
    restarts: list[None] = []
    monkeypatch.setattr(StepClock, "restart", lambda clock: restarts.append(None))
    loop = make_loop(model, inbox, max_num_batched_tokens=1000)
    loop.submit(make_sequence(1, [5] * num_tokens, SamplingParams(temperature=0.0, max_tokens=1)))
    loop.run_once()
    assert len(restarts) == (model.config.num_hidden_layers if is_watched_by_layers else 0)
    loop.close()
