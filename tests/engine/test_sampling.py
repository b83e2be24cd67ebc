"""Sampling against straightforward references, and its independence of batch mates."""

import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, NoRepeatNGramLogitsProcessor, TopPLogitsWarper, TypicalLogitsWarper
from transformers.generation.logits_process import EpsilonLogitsWarper, EtaLogitsWarper, TopHLogitsWarper

from hugging_llama.engine.grammars.bits import Bits, only
from hugging_llama.engine.probability_filters import FilterOptions, filter_probs
from hugging_llama.engine.sampling import adjust, sample
from hugging_llama.engine.sampling_state import NgramIndex, TokenCounts
from hugging_llama.engine.sequence import Sequence
from hugging_llama.engine.token_choice import pick
from hugging_llama.errors import GenerationError, InvalidLogitsError
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import make_sequence

VOCAB = 60


def random_logits(rows: int, *, seed: int = 0, vocab: int = VOCAB) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 3


def plain(**options: Any) -> SamplingParams:
    """Everything off but what is named."""
    off: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    return SamplingParams(**off | options)


def with_history(params: SamplingParams, prompt: list[int], output: list[int]) -> Sequence:
    sequence = make_sequence(1, prompt, params)
    for token_id in output:
        sequence.append_token(token_id, 0)
    return sequence


class OnlyThese:
    """A grammar that allows some tokens."""

    def __init__(self, allowed: list[int]) -> None:
        self.allowed = allowed
        self.accepted: list[int] = []

    def fill(self, bits: Bits) -> bool:
        only(bits, self.allowed)
        return True

    def forced(self) -> list[int]:
        return []

    def accept(self, token_id: int) -> None:
        self.accepted.append(token_id)

    @property
    def finished(self) -> bool:
        return False


def test_temperature_zero_takes_the_best() -> None:
    logits = random_logits(4)
    sequences = [make_sequence(i, [1], plain(temperature=0.0)) for i in range(4)]
    assert sample(logits, sequences) == logits.argmax(-1).tolist()


def test_no_sequences_give_no_tokens() -> None:
    assert sample(torch.empty(0, VOCAB), []) == []


def penalised_by_hand(logits: list[float], tokens: list[int], params: SamplingParams) -> list[float]:
    """llama.cpp's llama_sampler_penalties, written from its definition."""
    window = tokens if params.repeat_last_n < 0 else tokens[-params.repeat_last_n :]
    result = list(logits)
    for token_id, count in Counter(window if params.repeat_last_n else []).items():
        value = result[token_id]
        value = value / params.repetition_penalty if value > 0 else value * params.repetition_penalty
        result[token_id] = value - count * params.frequency_penalty - params.presence_penalty
    return result


@given(
    tokens=st.lists(st.integers(0, 9), min_size=2, max_size=40),
    split=st.integers(1, 39),
    window=st.sampled_from([-1, 0, 1, 3, 10, 64]),
    penalties=st.tuples(st.sampled_from([1.0, 1.3]), st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, -0.2, 0.7])),
)
@hypothesis_settings(max_examples=60)
def test_penalties_are_those_of_llama_cpp(
    tokens: list[int], split: int, window: int, penalties: tuple[float, float, float]
) -> None:
    repetition, presence, frequency = penalties
    params = plain(
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
        repeat_last_n=window,
    )
    split = min(split, len(tokens))
    sequence = with_history(params, tokens[:split], tokens[split:])
    rows = random_logits(3)
    expected = penalised_by_hand(rows[1].tolist(), tokens, params)
    mates = [with_history(plain(), tokens, []), with_history(plain(repetition_penalty=1.1), tokens, [])]
    before = rows.tolist()
    adjust(rows, [mates[0], sequence, mates[1]])
    assert rows[1].tolist() == pytest.approx(expected, abs=1e-5)
    assert rows[0].tolist() == before[0]
    assert rows[2].tolist() == pytest.approx(penalised_by_hand(before[2], tokens, mates[1].sampling), abs=1e-5)


@given(tokens=st.lists(st.integers(0, 200), max_size=300), window=st.sampled_from([-1, 1, 5, 64]))
@hypothesis_settings(max_examples=60)
def test_token_counts_follow_the_window(tokens: list[int], window: int) -> None:
    counts = TokenCounts(window)
    for token_id in tokens:
        counts.add(token_id)
    ids, times = counts.arrays()
    expected = Counter(tokens if window < 0 else tokens[-window:])
    assert dict(zip(ids.tolist(), times.tolist(), strict=True)) == expected


@given(tokens=st.lists(st.integers(0, 3), min_size=1, max_size=30), size=st.integers(1, 4))
@hypothesis_settings(max_examples=60)
def test_banned_ngrams_are_those_of_transformers(tokens: list[int], size: int) -> None:
    index = NgramIndex(size)
    for token_id in tokens:
        index.add(token_id)
    reference = NoRepeatNGramLogitsProcessor(size)(torch.tensor([tokens]), torch.zeros(1, 4))
    assert set(index.banned()) == set(torch.isinf(reference[0]).nonzero()[:, 0].tolist())


WARPERS = [
    ("top_p", 0.5, TopPLogitsWarper(0.5)),
    ("top_p", 0.95, TopPLogitsWarper(0.95)),
    ("top_p", 0.0, TopPLogitsWarper(0.0)),
    ("min_p", 0.1, MinPLogitsWarper(0.1)),
    ("min_p", 1.0, MinPLogitsWarper(1.0)),
    ("typical_p", 0.3, TypicalLogitsWarper(0.3)),
    ("typical_p", 0.9, TypicalLogitsWarper(0.9)),
    ("top_h", 0.3, TopHLogitsWarper(0.3)),
    ("top_h", 0.9, TopHLogitsWarper(0.9)),
    ("epsilon_cutoff", 0.02, EpsilonLogitsWarper(0.02)),
    ("epsilon_cutoff", 0.9, EpsilonLogitsWarper(0.9)),
    ("eta_cutoff", 0.02, EtaLogitsWarper(0.02)),
    ("eta_cutoff", 0.9, EtaLogitsWarper(0.9)),
]


@pytest.mark.parametrize(("option", "value", "warper"), WARPERS)
def test_filters_keep_what_transformers_keeps(option: str, value: float, warper: Any) -> None:
    logits = random_logits(20).sort(dim=-1, descending=True).values
    expected = torch.softmax(warper(torch.zeros(20, 1, dtype=torch.long), logits), dim=-1)
    # rows with other options beside them change nothing
    params = [plain(**{option: value}), plain()] * 20
    whole = torch.softmax(logits, dim=-1).repeat_interleave(2, dim=0).double().numpy()
    probs = filter_probs(whole, FilterOptions.of(params, VOCAB))
    assert probs[::2] == pytest.approx(expected.numpy(), abs=1e-6)
    assert (probs[1::2] == whole[1::2]).all()


@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_p": 0.6}, {"temperature": 0.5, "top_k": 8, "min_p": 0.05}])
def test_tokens_come_as_often_as_their_probability_says(options: dict[str, Any]) -> None:
    logits = random_logits(1, vocab=12)
    params = plain(**options)
    sequences = [make_sequence(i, [1], plain(seed=i, **options)) for i in range(200)]
    drawn: Counter[Any] = Counter()
    for _ in range(20):
        tokens = sample(logits.expand(200, -1), sequences)
        drawn.update(tokens)
        for sequence in sequences:
            sequence.sampling_state.accept(0)
    count = drawn.total()
    scores = logits[0] / params.temperature
    if params.top_k:
        scores[scores < scores.topk(params.top_k).values[-1]] = -torch.inf
    ordered = torch.softmax(scores, -1).sort(descending=True)
    probs = filter_probs(ordered.values[None].double().numpy(), FilterOptions.of([params], 12))[0]
    for token_id, probability in zip(ordered.indices.tolist(), probs.tolist(), strict=True):
        deviation = math.sqrt(probability * (1 - probability) / count)
        assert abs(drawn[token_id] / count - probability) <= 4.5 * deviation


def test_pick_never_takes_what_has_no_probability() -> None:
    probs = np.array([[0.0, 0.5, 0.0, 0.5, 0.0]]).repeat(4, axis=0)
    assert pick(probs, np.array([0.0, 0.49, 0.51, 1.0])).tolist() == [1, 1, 3, 3]


def test_a_seeded_sequence_does_not_depend_on_its_batch_mates() -> None:
    steps = 12
    params = SamplingParams(seed=42, repetition_penalty=1.2)
    rng = random.Random(5)

    def run(mates: int) -> list[Any]:
        sequence = make_sequence(0, [1, 2], params)
        others = [
            make_sequence(i + 1, [3], SamplingParams(seed=i, top_k=rng.choice([0, 1, 40, 50]), top_p=0.7))
            for i in range(mates)
        ]
        drawn = []
        for step in range(steps):
            logits = random_logits(1, seed=step).bfloat16().repeat(mates + 1, 1)
            token = sample(logits, [*others, sequence])[-1]
            assert isinstance(token, int)
            sequence.append_token(token, 0)
            drawn.append(token)
        return drawn

    alone = run(0)
    assert alone == run(1) == run(9)
    assert len(set(alone)) > 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"top_k": 0}, {"top_k": 0, "top_p": 1.0}, {"min_p": 0.1, "typical_p": 0.9}])
def test_half_precision_is_only_in_the_logits(dtype: torch.dtype, options: dict[str, Any]) -> None:
    # far apart, so that no tie is broken by chance
    logits = (torch.randperm(VOCAB, generator=torch.Generator().manual_seed(1)) / 16).repeat(20, 1)

    def run(values: torch.Tensor) -> list[Any]:
        return sample(values, [make_sequence(i, [1], SamplingParams(seed=i, **options)) for i in range(20)])

    assert run(logits.to(dtype)) == run(logits)


def test_a_step_that_is_tried_again_draws_the_same() -> None:
    sequence = make_sequence(0, [1], plain(seed=3))
    tried = [sample(random_logits(1), [sequence])[0] for _ in range(3)]
    assert len(set(tried)) == 1


def test_unseeded_sequences_differ() -> None:
    def run() -> list[Any]:
        sequence = make_sequence(0, [1], plain())
        drawn = []
        for _ in range(20):
            drawn.append(sample(torch.zeros(1, VOCAB), [sequence])[0])
            sequence.sampling_state.accept(0)
        return drawn

    assert run() != run()


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**64 + 5])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert isinstance(sample(random_logits(1), [make_sequence(0, [1], plain(seed=seed))])[0], int)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_row_of_no_numbers_fails_alone(bad: float, temperature: float) -> None:
    logits = random_logits(3)
    logits[1, 7] = bad
    sequences = [make_sequence(i, [1], plain(temperature=temperature)) for i in range(3)]
    results = sample(logits, sequences)
    assert isinstance(results[1], InvalidLogitsError)
    assert results[1].code == "invalid_logits"
    assert isinstance(results[0], int)
    assert isinstance(results[2], int)


@pytest.mark.parametrize("params", [plain(temperature=0.0), plain(), plain(top_k=3), plain(top_p=0.5, typical_p=0.5)])
def test_a_grammar_decides_what_may_come(params: SamplingParams) -> None:
    allowed = [5, 17, 31]
    sequence = make_sequence(0, [1], params, grammar=OnlyThese(allowed))
    free = make_sequence(1, [1], params)
    logits = random_logits(2)
    before = logits.clone()
    for _ in range(10):
        results = sample(logits, [sequence, free])
        assert results[0] in allowed
    assert torch.equal(logits, before)


def test_a_grammar_that_allows_nothing_ends_its_sequence_only() -> None:
    for params in (plain(temperature=0.0), plain(), plain(top_k=3)):
        stuck = make_sequence(0, [1], params, grammar=OnlyThese([]))
        results = sample(random_logits(2), [stuck, make_sequence(1, [1], params)])
        assert type(results[0]) is GenerationError
        assert isinstance(results[1], int)


def test_a_grammar_that_raises_ends_its_sequence_only() -> None:
    class Broken(OnlyThese):
        def fill(self, bits: Bits) -> bool:
            raise ValueError("broken")

    results = sample(random_logits(2), [make_sequence(0, [1], plain(), grammar=Broken([])), make_sequence(1, [1])])
    assert isinstance(results[0], GenerationError)
    assert isinstance(results[1], int)


def test_a_tiny_temperature_is_nearly_greedy() -> None:
    logits = random_logits(3)
    sequences = [make_sequence(i, [1], plain(temperature=1e-30)) for i in range(3)]
    assert sample(logits, sequences) == logits.argmax(-1).tolist()


def test_top_k_larger_than_the_vocabulary_is_off() -> None:
    assert isinstance(sample(random_logits(1), [make_sequence(0, [1], plain(top_k=10_000))])[0], int)
