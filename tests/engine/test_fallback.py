"""The runner over `generate`: the same tokens, options and ends as the batched one, one sequence at a time."""

import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from transformers import PreTrainedModel

from hugging_llama.engine.compute_lock import COMPUTE_LOCK, ComputeLock
from hugging_llama.engine.fallback import GenerateRunner
from hugging_llama.engine.grammars.bits import Bits
from hugging_llama.engine.sequence import Sequence, StepEvents
from hugging_llama.errors import EngineBusyError, EngineShutdownError, GenerationError, HuggingLlamaError
from hugging_llama.neutral.events import Finished, FinishReason
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import GREEDY, Echo, Inbox, make_loop, make_prompts, make_sequence
from tests.engine.tiny_models import VOCAB_SIZE, generate_greedy, make_mamba, make_model

FOREVER = SamplingParams(temperature=0.0)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def runner(inbox: Inbox) -> Iterator[GenerateRunner]:
    runner = make_generate_runner(make_mamba(), inbox)
    yield runner
    runner.close()


def make_generate_runner(model: PreTrainedModel, inbox: Inbox, max_queue: int = 100) -> GenerateRunner:
    return GenerateRunner(model, max_queue=max_queue, emit=inbox.emit, on_finished=inbox.on_finished, name="test")


def outcome(inbox: Inbox, sequence: Sequence) -> FinishReason | type[HuggingLlamaError]:
    (end,) = inbox.ends(sequence.key)
    assert inbox.events(sequence.key)[-1] is end
    if isinstance(end, Finished):
        return end.reason
    error: HuggingLlamaError = end
    return type(error)


def test_a_sampled_answer_is_the_same_in_both_runners() -> None:
    params = SamplingParams(
        seed=7, max_tokens=12, repetition_penalty=1.2, no_repeat_ngram_size=2, min_p=0.01, top_p=0.95
    )
    prompts = make_prompts(3)

    def texts(make: Any) -> list[str]:
        inbox = Inbox()
        runner = make(make_model("qwen3"), inbox)
        for i, prompt in enumerate(prompts):
            runner.submit(make_sequence(i, prompt, params))
        runner.start()
        inbox.wait_finished(len(prompts))
        runner.close()
        return [inbox.text((1, i)) for i in range(len(prompts))]

    assert texts(make_generate_runner) == texts(make_loop)


def test_the_models_own_sampling_defaults_do_not_act_twice(inbox: Inbox) -> None:
    model = make_mamba()
    expected = generate_greedy(model, [4, 5, 6], 8)
    config: Any = model.generation_config
    config.repetition_penalty, config.temperature, config.max_length = 5.0, 0.1, 4
    config.eos_token_id = expected[2]
    runner = make_generate_runner(model, inbox)
    sequence = make_sequence(1, [4, 5, 6], GREEDY)
    runner.submit(sequence)
    runner.run_once()
    assert sequence.output_token_ids == expected
    runner.close()


def test_the_end_of_sequence_token_and_the_context_end_it(runner: GenerateRunner, inbox: Inbox) -> None:
    first = make_sequence(1, [4, 5, 6], FOREVER, context_length=11)
    runner.submit(first)
    runner.run_once()
    assert outcome(inbox, first) is FinishReason.LENGTH
    assert len(first.output_token_ids) == 8
    eos = first.output_token_ids[-1]
    second = make_sequence(2, [4, 5, 6], FOREVER, eos_token_ids=frozenset({eos}))
    runner.submit(second)
    runner.run_once()
    assert outcome(inbox, second) is FinishReason.STOP
    assert eos not in second.output.pushed  # type: ignore[attr-defined]
    usage = inbox.ends(second.key)[0].usage
    assert usage.num_prompt_tokens == 3
    assert usage.num_output_tokens == len(second.output_token_ids)


def test_a_running_and_a_waiting_sequence_can_be_cancelled(runner: GenerateRunner, inbox: Inbox) -> None:
    running, waiting = make_sequence(1, [5], FOREVER, context_length=100_000), make_sequence(2, [5])
    runner.submit(running)
    runner.submit(waiting)
    runner.start()
    inbox.wait_for_events(running.key, 2)
    runner.cancel(waiting.key)
    inbox.wait_finished(1)
    assert outcome(inbox, waiting) is FinishReason.ABORT
    assert inbox.ends(running.key) == []
    runner.cancel_connection(1)
    inbox.wait_finished(2)
    assert outcome(inbox, running) is FinishReason.ABORT
    assert runner.stats().cancelled_total == 2


def test_close_ends_the_running_and_the_waiting(runner: GenerateRunner, inbox: Inbox) -> None:
    sequences = [make_sequence(i, [5], FOREVER, context_length=100_000) for i in range(3)]
    for sequence in sequences:
        runner.submit(sequence)
    runner.start()
    inbox.wait_for_events(sequences[0].key, 2)
    assert (runner.stats().num_running, runner.stats().num_waiting) == (1, 2)
    runner.close()
    assert [outcome(inbox, sequence) for sequence in sequences] == [FinishReason.SHUTDOWN] * 3
    with pytest.raises(EngineShutdownError):
        runner.submit(make_sequence(9, [5]))


def test_errors_end_their_sequence_only(runner: GenerateRunner, inbox: Inbox) -> None:
    class Nothing:
        finished = False

        def fill(self, bits: Bits) -> bool:
            bits[:] = 0
            return True

        def forced(self) -> list[int]:
            return []

        def accept(self, token_id: int) -> None:
            raise AssertionError("nothing could be sampled")

    sequences = [
        make_sequence(1, [5], output=Echo(fail_at=2)),
        make_sequence(2, [5], grammar=Nothing()),
        make_sequence(3, [5]),
    ]
    for sequence in sequences:
        runner.submit(sequence)
        runner.run_once()
    assert [outcome(inbox, sequence) for sequence in sequences] == [
        GenerationError,
        GenerationError,
        FinishReason.LENGTH,
    ]


def test_a_model_that_raises_ends_the_sequence(
    runner: GenerateRunner, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("transformers.MambaForCausalLM.forward", lambda *_, **__: 1 / 0)
        sequence = make_sequence(1, [5])
        runner.submit(sequence)
        runner.run_once()
    assert outcome(inbox, sequence) is GenerationError


def test_a_generate_that_ends_on_its_own_is_an_end(runner: GenerateRunner, inbox: Inbox) -> None:
    model: Any = runner._model
    model.generate = lambda *_, **__: None
    sequence = make_sequence(1, [5])
    runner.submit(sequence)
    runner.run_once()
    assert outcome(inbox, sequence) is FinishReason.LENGTH
    assert inbox.finished == [sequence]


def test_the_queue_is_bounded(inbox: Inbox) -> None:
    runner = make_generate_runner(make_mamba(), inbox, max_queue=1)
    runner.submit(make_sequence(1, [5]))
    runner.submit(make_sequence(2, [5]))
    with pytest.raises(EngineBusyError):
        runner.submit(make_sequence(3, [5]))
    runner.close()
    assert len(inbox.finished) == 2


@pytest.mark.parametrize("seed", range(3))
def test_every_accepted_sequence_ends_exactly_once(seed: int) -> None:
    rng, inbox = random.Random(seed), Inbox()
    cancels: list[tuple[int, int]] = []

    def emit(events: StepEvents) -> None:
        inbox.emit(events)
        if rng.random() < 0.1:
            loop.cancel(rng.choice(cancels))

    loop = GenerateRunner(make_mamba(), max_queue=100, emit=emit, on_finished=inbox.on_finished, name="test")
    accepted = []
    for number in range(20):
        output = Echo(fail_at=rng.choice([None, 2]), stop_ids=frozenset(rng.sample(range(VOCAB_SIZE), 30)))
        sampling = SamplingParams(max_tokens=rng.choice([0, 1, 6]), seed=number)
        sequence = make_sequence(number, [5] * rng.randrange(4), sampling, output=output)
        cancels.append(sequence.key)
        try:
            loop.submit(sequence)
            accepted.append(sequence)
        except HuggingLlamaError:
            continue
        if rng.random() < 0.4:
            loop.run_once()
    loop.close()
    assert sorted(s.key for s in inbox.finished) == sorted(s.key for s in accepted)
    for sequence in accepted:
        outcome(inbox, sequence)


def test_a_cancel_ends_a_prompt_between_two_layers(inbox: Inbox) -> None:
    model = make_model("gpt2")
    runner = make_generate_runner(model, inbox)
    layers: Any = model.get_submodule("transformer.h")
    ran: list[int] = []
    for number, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    sequence = make_sequence(1, [5] * 50)
    layers[0].register_forward_hook(lambda *_: runner.cancel(sequence.key))
    runner.submit(sequence)
    runner.run_once()
    assert outcome(inbox, sequence) is FinishReason.ABORT
    assert ran == [0]
    assert not any(layer._forward_pre_hooks for layer in layers)


def test_another_models_step_gets_its_turn_during_a_generation(runner: GenerateRunner, inbox: Inbox) -> None:
    endless = make_sequence(1, [5], FOREVER, context_length=100_000)
    runner.submit(endless)
    runner.start()
    inbox.wait_for_events(endless.key, 2)
    with COMPUTE_LOCK:
        before = len(inbox.events(endless.key))
        assert not inbox.ends(endless.key)
    inbox.wait_for_events(endless.key, before + 2)


def test_the_compute_lock_is_granted_in_the_order_of_asking() -> None:
    lock, order = ComputeLock(), list[int]()
    asked = [threading.Event() for _ in range(4)]

    def take(number: int) -> None:
        asked[number].set()
        with lock:
            order.append(number)

    lock.acquire()
    threads = []
    for number in range(4):
        threads.append(threading.Thread(target=take, args=(number,)))
        threads[-1].start()
        asked[number].wait()
        while lock.num_waiting <= number:
            threads[-1].join(0.001)
    lock.yield_turn()
    assert order == [0, 1, 2, 3]
    lock.release()
    for thread in threads:
        thread.join()
