"""Guessed tokens: tried several at once, and the text stays what it is without them."""

import pytest
import torch
from transformers import PreTrainedModel

from hugging_llama.engine.drafts import DraftFinder
from hugging_llama.engine.kv_cache import KVCache
from hugging_llama.engine.model_runner import Chunk, ModelRunner
from hugging_llama.engine.sequence import Sequence
from hugging_llama.neutral.events import Finished
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import Echo, Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import LONGROPE_SWITCH, generate_greedy, make_model

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


def run_all(model: PreTrainedModel, sequences: list[Sequence]) -> tuple[int, int, int]:
    """(steps, guessed, right)"""
    inbox = Inbox()
    loop = make_loop(model, inbox, max_prefixes=0, max_num_batched_tokens=256)
    for sequence in sequences:
        loop.submit(sequence)
    run_until(loop, inbox, len(sequences))
    loop.close()
    for sequence in sequences:
        (end,) = inbox.ends(sequence.key)
        assert isinstance(end, Finished)
    stats = loop.stats()
    assert stats.kv_used_tokens == 0
    return stats.steps_total, stats.drafted_tokens_total, stats.accepted_tokens_total


class Oracle(DraftFinder):
    """Knows what comes, and is wrong at every `wrong_every`-th token: random models seldom repeat themselves."""

    def __init__(self, size: int, known: list[int], *, wrong_every: int = 7) -> None:
        super().__init__(size)
        self._known = [token if i % wrong_every else token ^ 1 for i, token in enumerate(known)]
        self._size = size

    def find(self, token_ids: list[int], room: int) -> list[int]:
        return self._known[len(token_ids) :][: min(room, self._size)]


def repetitive(count: int = 3, name: str = "llama") -> list[list[int]]:
    """Prompts that hold what is likely to follow them."""
    found, model = [], make_model(name)
    for prompt in make_prompts(count, seed=3, shortest=10, longest=14):
        answer = generate_greedy(model, prompt, 24)
        found.append([*prompt, *answer, *prompt])
    return found


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt_oss", "gpt2"])
@pytest.mark.parametrize("num_seqs", [1, 4])
def test_greedy_text_is_that_of_generate(name: str, num_seqs: int) -> None:
    original, model = make_model(name), make_model(name)
    prompts = make_prompts(num_seqs, seed=3, shortest=10, longest=30)
    expected = [generate_greedy(original, prompt, 40) for prompt in prompts]
    params = SamplingParams(temperature=0.0, max_tokens=40, num_draft_tokens=6)
    sequences = [make_sequence(i, prompt, params) for i, prompt in enumerate(prompts)]
    for sequence, answer in zip(sequences, expected, strict=True):
        sequence.drafts = Oracle(5, sequence.prompt_token_ids + answer)
    steps, guessed, right = run_all(model, sequences)
    assert [sequence.output_token_ids for sequence in sequences] == expected
    assert guessed > right > 20 * num_seqs / 2
    assert steps < 25


def test_guesses_save_steps(model: PreTrainedModel) -> None:
    prompt = [11, 12, 13, 14] * 10
    plain, drafting = (
        make_sequence(i, prompt, SamplingParams(temperature=0.0, max_tokens=60, num_draft_tokens=n))
        for i, n in enumerate((0, 8))
    )
    plain_steps, guessed, _ = run_all(model, [plain])
    assert (plain_steps, guessed) == (60, 0)
    drafting.drafts = Oracle(8, prompt + plain.output_token_ids)
    steps, _, right = run_all(model, [drafting])
    assert steps == 60 - right < 20
    assert drafting.output_token_ids == plain.output_token_ids


@pytest.mark.parametrize("seed", range(4))
def test_sampled_text_is_the_same_with_guesses(model: PreTrainedModel, seed: int) -> None:
    # so narrow a choice repeats itself often, and penalties, n-grams and seeds must all follow the guesses
    params = {"temperature": 0.7, "top_k": 3, "frequency_penalty": 0.05, "max_tokens": 60, "seed": seed}
    prompts = repetitive(3)
    runs: list[tuple[tuple[int, int, int], list[list[int]]]] = []
    for num_draft_tokens in (0, 5):
        options = SamplingParams(**params, num_draft_tokens=num_draft_tokens)  # type: ignore[arg-type]
        sequences = [make_sequence(i, prompt, options) for i, prompt in enumerate(prompts)]
        for sequence, before in zip(sequences, runs[0][1] if runs else [], strict=False):
            sequence.drafts = Oracle(5, sequence.prompt_token_ids + before)
        runs.append((run_all(model, sequences), [sequence.output_token_ids for sequence in sequences]))
    assert runs[0][1] == runs[1][1]
    assert runs[1][0][2] > 60


def test_a_stop_inside_the_guesses_ends_the_text_there(model: PreTrainedModel) -> None:
    prompt = repetitive(1)[0]
    params = SamplingParams(temperature=0.0, max_tokens=40, num_draft_tokens=8)
    free = make_sequence(1, prompt, params)
    run_all(model, [free])
    eos = free.output_token_ids[13]
    stopped = make_sequence(2, prompt, params, eos_token_ids=frozenset({eos}))
    by_text = make_sequence(3, prompt, params, output=Echo(stop_ids=frozenset({eos})))
    for sequence in (stopped, by_text):
        sequence.drafts = Oracle(8, prompt + free.output_token_ids, wrong_every=100)
    run_all(model, [stopped])
    run_all(model, [by_text])
    expected = free.output_token_ids[: free.output_token_ids.index(eos) + 1]
    assert stopped.output_token_ids == by_text.output_token_ids == expected


@pytest.mark.parametrize("limit", range(1, 8))
def test_no_more_tokens_than_asked_for(model: PreTrainedModel, limit: int) -> None:
    prompt = repetitive(1)[0]
    by_tokens = make_sequence(1, prompt, SamplingParams(temperature=0.0, max_tokens=limit, num_draft_tokens=8))
    by_context = make_sequence(
        2, prompt, SamplingParams(temperature=0.0, num_draft_tokens=8), context_length=len(prompt) + limit
    )
    known = prompt + generate_greedy(make_model("llama"), prompt, 20)
    for sequence in (by_tokens, by_context):
        sequence.drafts = Oracle(8, known, wrong_every=100)
        run_all(model, [sequence])
    assert len(by_tokens.output_token_ids) == len(by_context.output_token_ids) == limit


def test_guesses_stay_on_their_side_of_the_longrope_switch() -> None:
    model = make_model("phi3_longrope")
    prompt = [11, 12, 13] * ((LONGROPE_SWITCH - 6) // 3)
    expected = generate_greedy(make_model("phi3_longrope"), prompt, 20)
    sequence = make_sequence(1, prompt, SamplingParams(temperature=0.0, max_tokens=20, num_draft_tokens=8))
    sequence.drafts = Oracle(8, prompt + expected)
    run_all(model, [sequence])
    assert sequence.output_token_ids == expected


def test_a_full_batch_has_no_room_for_guesses(model: PreTrainedModel) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox, max_num_seqs=16, max_num_batched_tokens=4096)
    params = SamplingParams(temperature=0.0, max_tokens=12, num_draft_tokens=4)
    for i in range(16):
        loop.submit(make_sequence(i, [i + 1, 2, 3] * 6, params))
    run_until(loop, inbox, 16)
    assert loop.stats().drafted_tokens_total == 0
    loop.close()


def test_the_finder_finds_the_last_place_and_learns() -> None:
    tokens = [1, 2, 3, 4, 5, 1, 2, 3, 9, 8, 1, 2, 3]
    finder = DraftFinder(3)
    assert finder.find(tokens, 10) == [9, 8, 1]
    assert finder.find(tokens, 2) == [9, 8]
    assert finder.find(tokens, 0) == []
    finder.count(3, 0, len(tokens))
    assert len(finder.find(tokens, 10)) == 2
    for _ in range(10):
        finder.count(2, 0, len(tokens))
    assert finder.find(tokens, 10) == [], "guesses that are never right stop for a while"
    later = [*tokens, *range(100, 1200), 1, 2, 3]
    assert finder.find(later, 10) == [100, 101]
    assert DraftFinder(4).find([5, 6, 7], 4) == []


def test_logits_of_guesses_are_those_of_single_steps(model: PreTrainedModel) -> None:
    """The forward itself: a chunk's rows are what one token after the other gives."""
    runner = ModelRunner(model)
    cache = KVCache(runner.probe().shapes, dtype=runner.dtype, device=runner.device, capacity_tokens=1024)
    one, many = cache.allocate(20), cache.allocate(20)
    assert one is not None
    assert many is not None
    ids = list(range(30, 42))
    singles = [runner.compute([Chunk(one, i, [token], 1)]) for i, token in enumerate(ids)]
    together = runner.compute([Chunk(many, 0, ids, len(ids))])
    torch.testing.assert_close(together, torch.cat(singles), rtol=1e-4, atol=1e-4)


def test_a_shift_ends_the_silence(model: PreTrainedModel) -> None:
    finder = DraftFinder(4)
    tokens = [1, 2, 3, 4] * 10
    while finder.find(tokens, 4):
        finder.count(4, 0, len(tokens))
    # the silence would last longer than the context that is left can grow
    finder.restart()
    assert finder.find(tokens[:20], 4)
