"""Memory runs short while sequences run: whoever gives way goes on later, and nobody can tell."""

import pytest
import torch
from transformers import PreTrainedModel

from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.engine.scheduler import Batch, ScheduledSequence
from hugging_llama.errors import InsufficientMemoryError
from hugging_llama.neutral.events import Finished
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import make_model

SAMPLED = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.1, max_tokens=200, seed=7)

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


def texts(model: PreTrainedModel, *, capacity_tokens: int, max_prefixes: int) -> tuple[list[str], int]:
    inbox = Inbox()
    loop = make_loop(
        model, inbox, capacity_tokens=capacity_tokens, max_prefixes=max_prefixes, max_num_batched_tokens=64
    )
    sequences = [
        make_sequence(i, prompt, SAMPLED) for i, prompt in enumerate(make_prompts(5, shortest=100, longest=180))
    ]
    for sequence in sequences:
        loop.submit(sequence)
    run_until(loop, inbox, 5)
    loop.close()
    preempted = loop.stats().preempted_total
    assert loop.stats().kv_used_tokens == 0
    return [inbox.text(sequence.key) for sequence in sequences], preempted


@pytest.mark.parametrize("max_prefixes", [0, 8])
def test_a_preempted_sequence_says_the_same(model: PreTrainedModel, max_prefixes: int) -> None:
    plenty, none = texts(model, capacity_tokens=1 << 14, max_prefixes=max_prefixes)
    scarce, some = texts(model, capacity_tokens=1024, max_prefixes=max_prefixes)
    assert none == 0
    assert some > 0
    assert scarce == plenty


def test_a_short_memory_ends_the_newest_and_the_others_go_on(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, inbox = ModelRunner.run, Inbox()

    def with_little_memory(runner: ModelRunner, batch: Batch) -> tuple[list[ScheduledSequence], torch.Tensor]:
        if len(batch.rows) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return real(runner, batch)

    monkeypatch.setattr(ModelRunner, "run", with_little_memory)
    loop = make_loop(model, inbox)
    sequences = [make_sequence(i, prompt) for i, prompt in enumerate(make_prompts(4, longest=3))]
    for sequence in sequences:
        loop.submit(sequence)
    run_until(loop, inbox, 4)
    ends = [inbox.ends(sequence.key)[0] for sequence in sequences]
    assert [type(end) for end in ends] == [Finished, Finished, InsufficientMemoryError, InsufficientMemoryError]
    late = make_sequence(9, [5])
    loop.submit(late)
    run_until(loop, inbox, 5)
    assert isinstance(inbox.ends(late.key)[0], Finished)
    loop.close()


def test_retained_prefixes_go_first_when_a_step_finds_no_memory(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, inbox = ModelRunner.run, Inbox()
    loop = make_loop(model, inbox)
    loop.submit(make_sequence(1, [5] * 30))
    run_until(loop, inbox, 1)
    assert loop.stats().kv_retained_tokens > 0

    def full_until_cleared(runner: ModelRunner, batch: Batch) -> tuple[list[ScheduledSequence], torch.Tensor]:
        if loop.stats().kv_retained_tokens:
            raise torch.OutOfMemoryError("out of memory")
        return real(runner, batch)

    monkeypatch.setattr(ModelRunner, "run", full_until_cleared)
    second = make_sequence(2, [9] * 30)
    loop.submit(second)
    loop.run_once()
    assert loop.stats().kv_retained_tokens == 0
    run_until(loop, inbox, 2)
    assert isinstance(inbox.ends(second.key)[0], Finished)
    loop.close()
