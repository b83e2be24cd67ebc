"""Log-probabilities of prompts: those of the model, told before anything else, once, whatever happens meanwhile."""

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.fallback import GenerateRunner
from hugging_llama.engine.model_runner import Chunk, ModelRunner
from hugging_llama.engine.runner_thread import RunnerThread
from hugging_llama.engine.scheduler import MAX_SCORED_TOKENS
from hugging_llama.engine.sequence import Sequence
from hugging_llama.errors import InvalidLogitsError, InvalidRequestError
from hugging_llama.neutral.events import Finished, FinishReason, PromptLogprobs, Started, TokenLogprob
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import GREEDY, Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import LONGROPE_SWITCH, generate_greedy, make_mamba, make_model

NUM_TOP = 3
NO_TOKEN = SamplingParams(temperature=0.0, max_tokens=0)
(PROMPT,) = make_prompts(1, seed=3, shortest=90, longest=90)


def scored(number: int, prompt: list[int], sampling: SamplingParams = GREEDY, **options: Any) -> Sequence:
    return make_sequence(
        number, prompt, sampling, prompt_logprobs=NUM_TOP, token_bytes=lambda token_id: b"%d" % token_id, **options
    )


def fallback(model: PreTrainedModel, inbox: Inbox) -> GenerateRunner:
    return GenerateRunner(model, max_queue=9, emit=inbox.emit, on_finished=inbox.on_finished, name="test")


def run(runner: RunnerThread, inbox: Inbox, *sequences: Sequence) -> None:
    for sequence in sequences:
        runner.submit(sequence)
    for _ in range(1000):
        if len(inbox.finished) >= len(sequences):
            return
        runner.run_once()
    raise AssertionError("the sequences did not end")


def told(inbox: Inbox, sequence: Sequence) -> list[TokenLogprob]:
    """What was told of the prompt; checks that it came before all deltas and begins with the first token."""
    events = inbox.events(sequence.key)
    found = [event for event in events if isinstance(event, PromptLogprobs)]
    before = events[isinstance(events[0], Started) :]
    assert before[: len(found)] == found
    assert [event.first for event in found] == [b"%d" % sequence.prompt_token_ids[0], *[None] * (len(found) - 1)]
    return [entry for event in found for entry in event.entries]


def check(entries: list[TokenLogprob], model: PreTrainedModel, prompt: list[int]) -> None:
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([prompt])).logits[0].float().log_softmax(-1)
    assert [entry.token for entry in entries] == [b"%d" % token_id for token_id in prompt[1:]]
    for position, entry in enumerate(entries):
        assert entry.logprob == pytest.approx(float(expected[position, prompt[position + 1]]), abs=1e-4)
        best = expected[position].topk(NUM_TOP)
        assert [other.logprob for other in entry.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert [other.token for other in entry.top] == [b"%d" % token_id for token_id in best.indices.tolist()]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", ["llama", "gemma2", "granite", "gpt2", "phi3_longrope", "mamba"])
def test_they_are_those_of_the_model_in_any_company(name: str) -> None:
    make = make_mamba if name == "mamba" else lambda: make_model(name)
    inbox, prompts = Inbox(), [*make_prompts(3, seed=5, shortest=2, longest=70), PROMPT]
    sequences = [scored(i, prompt) if i % 2 else make_sequence(i, prompt) for i, prompt in enumerate(prompts)]
    loop = make_loop(make(), inbox, max_num_batched_tokens=24)
    run(loop, inbox, *sequences)
    loop.close()
    for sequence, prompt in zip(sequences, prompts, strict=True):
        assert sequence.output_token_ids == generate_greedy(make(), prompt, 8)
        if sequence.prompt_logprobs is not None:
            check(told(inbox, sequence), make(), prompt)
    assert len(PROMPT) > LONGROPE_SWITCH


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_the_fallback_tells_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hugging_llama.engine.prompt_logprobs.MAX_SCORED_TOKENS", 32)
    make = make_mamba if name == "mamba" else lambda: make_model(name)
    inbox = Inbox()
    sequences = scored(1, PROMPT), scored(2, PROMPT, NO_TOKEN), scored(3, PROMPT[:1])
    runner = fallback(make(), inbox)
    run(runner, inbox, *sequences)
    runner.close()
    for sequence in sequences:
        check(told(inbox, sequence), make(), sequence.prompt_token_ids)
    assert [len(sequence.output_token_ids) for sequence in sequences] == [8, 0, 8]
    assert sequences[0].output_token_ids == generate_greedy(make(), PROMPT, 8)


def test_without_tokens_the_prompt_is_told_all_the_same() -> None:
    inbox, model = Inbox(), make_model("llama")
    loop = make_loop(model, inbox)
    sequence = scored(1, PROMPT, NO_TOKEN, num_truncated_tokens=5)
    run(loop, inbox, sequence, scored(2, PROMPT[:1], NO_TOKEN))
    check(told(inbox, sequence), make_model("llama"), PROMPT)
    events = inbox.events(sequence.key)
    assert events[0] == Started(num_prompt_tokens=len(PROMPT), num_cached_tokens=0, num_truncated_tokens=5)
    assert events[-1].reason is FinishReason.LENGTH
    assert events[-1].usage.num_prompt_tokens == len(PROMPT)
    assert events[-1].usage.prompt_ns > 0
    assert sequence.output_token_ids == []
    assert inbox.events((1, 2))[0] == PromptLogprobs((), b"%d" % PROMPT[0])
    assert loop.stats().kv_used_tokens == 0
    loop.close()


def test_a_cut_prompt_is_announced_once_and_first() -> None:
    inbox = Inbox()
    sequence = scored(1, PROMPT, num_truncated_tokens=5)
    loop = make_loop(make_model("llama"), inbox)
    run(loop, inbox, sequence)
    loop.close()
    assert [at for at, event in enumerate(inbox.events(sequence.key)) if isinstance(event, Started)] == [0]


def test_a_known_beginning_is_computed_again_and_is_of_use_to_others() -> None:
    inbox, model = Inbox(), make_model("llama")
    loop = make_loop(model, inbox)
    run(loop, inbox, make_sequence(1, PROMPT))
    sequence, other = scored(2, PROMPT), make_sequence(3, PROMPT)
    inbox.finished.clear()
    run(loop, inbox, sequence, other)
    loop.close()
    check(told(inbox, sequence), make_model("llama"), PROMPT)
    assert sequence.num_cached_tokens == 0
    assert other.num_cached_tokens == len(PROMPT) - 1


def test_a_preempted_prompt_is_told_once() -> None:
    inbox, model = Inbox(), make_model("llama")
    prompts = make_prompts(4, seed=2, shortest=200, longest=250)
    loop = make_loop(model, inbox, capacity_tokens=1024, max_num_batched_tokens=64, max_prefixes=0)
    sampling = SamplingParams(temperature=0.0, max_tokens=100)
    sequences = [scored(i, prompt, sampling) for i, prompt in enumerate(prompts)]
    run(loop, inbox, *sequences)
    assert loop.stats().preempted_total > 0
    loop.close()
    for sequence, prompt in zip(sequences, prompts, strict=True):
        check(told(inbox, sequence), make_model("llama"), prompt)


def test_a_prompt_that_leaves_in_its_middle_goes_on_where_it_was() -> None:
    inbox, model = Inbox(), make_model("llama")
    loop = make_loop(model, inbox, max_prefixes=0)
    sequence = scored(1, PROMPT)
    loop.submit(sequence)
    loop.run_once()
    loop.run_once()
    assert 0 < sequence.num_told_tokens < len(PROMPT)
    loop._scheduler._preempt(sequence)
    run_until(loop, inbox, 1)
    loop.close()
    check(told(inbox, sequence), make_model("llama"), PROMPT)


def test_no_step_makes_logits_of_more_than_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    inbox, model, rows = Inbox(), make_model("llama"), []
    compute = ModelRunner.compute

    def watched(runner: ModelRunner, chunks: list[Chunk]) -> torch.Tensor:
        logits = compute(runner, chunks)
        rows.append(len(logits))
        return logits

    monkeypatch.setattr(ModelRunner, "compute", watched)
    prompts = make_prompts(3, seed=4, shortest=400, longest=500)
    sequences = [scored(i, prompt) for i, prompt in enumerate(prompts)]
    loop = make_loop(model, inbox, max_num_batched_tokens=4096)
    run(loop, inbox, *sequences)
    loop.close()
    # one more for each sequence that decodes beside them
    assert MAX_SCORED_TOKENS <= max(rows) <= MAX_SCORED_TOKENS + len(prompts)
    for sequence, prompt in zip(sequences, prompts, strict=True):
        check(told(inbox, sequence), make_model("llama"), prompt)


def test_logits_that_are_no_numbers_end_this_request_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    inbox, model = Inbox(), make_model("llama")
    compute = ModelRunner.compute

    def broken(runner: ModelRunner, chunks: list[Chunk]) -> torch.Tensor:
        logits, place = compute(runner, chunks).clone(), 0
        for chunk in chunks:
            place += chunk.num_logits
            if chunk.num_logits > 1:
                logits[place - 2, 7] = torch.nan
        return logits

    monkeypatch.setattr(ModelRunner, "compute", broken)
    loop = make_loop(model, inbox)
    sequence, other = scored(1, PROMPT), make_sequence(2, PROMPT)
    run(loop, inbox, sequence, other)
    loop.close()
    assert [type(event) for event in inbox.events(sequence.key)] == [InvalidLogitsError]
    assert isinstance(inbox.events(other.key)[-1], Finished)


def test_a_long_prompt_that_can_not_be_cut_is_refused() -> None:
    inbox, model = Inbox(), make_mamba()
    loop: StepLoop = make_loop(model, inbox)
    loop._model_runner.whole_prompts = True
    (prompt,) = make_prompts(1, shortest=MAX_SCORED_TOKENS + 1, longest=MAX_SCORED_TOKENS + 1)
    with pytest.raises(InvalidRequestError, match="one piece"):
        loop.submit(scored(1, prompt))
    loop.submit(scored(2, prompt[:-1]))
    loop.submit(make_sequence(3, prompt))
    loop.close()


def test_several_answers_compute_their_prompt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`n` answers are as many requests, so nothing but the prefix cache has to know of it."""
    inbox, model, computed = Inbox(), make_model("llama"), 0
    compute = ModelRunner.compute

    def counted(runner: ModelRunner, chunks: list[Chunk]) -> torch.Tensor:
        nonlocal computed
        computed += sum(len(chunk.token_ids) for chunk in chunks)
        return compute(runner, chunks)

    monkeypatch.setattr(ModelRunner, "compute", counted)
    n, num_tokens = 4, 8
    sampling = [SamplingParams(temperature=1.0, seed=seed, max_tokens=num_tokens) for seed in range(n)]
    sequences = [make_sequence(i, PROMPT, sampling[i]) for i in range(n)]
    loop = make_loop(model, inbox, max_num_batched_tokens=256)
    run(loop, inbox, *sequences)
    loop.close()
    assert [sequence.num_cached_tokens for sequence in sequences] == [0, *[len(PROMPT) - 1] * (n - 1)]
    # the last token of a prompt is computed by each of them, for its logits, the last one of an answer by none
    assert computed == len(PROMPT) + (n - 1) + n * (num_tokens - 1)
    assert len({tuple(sequence.output_token_ids) for sequence in sequences}) == n
