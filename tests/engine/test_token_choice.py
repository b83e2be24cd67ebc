"""Choosing tokens through windows against looking at everything at once."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hugging_llama.engine.candidates import top_candidates
from hugging_llama.engine.probability_filters import FilterOptions, filter_probs
from hugging_llama.engine.token_choice import NO_TOKEN, choose_tokens, pick
from hugging_llama.neutral.requests import SamplingParams

VOCAB = 16_421
"""Many blocks, and some tokens beyond the last one."""


def random_rows(seed: int, *, spread: float = 3.0, dtype: torch.dtype = torch.bfloat16, rows: int = 1) -> torch.Tensor:
    values = torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * spread
    return values.to(dtype)


def chosen_from_everything(row: torch.Tensor, params: SamplingParams, draw: float) -> int:
    """All tokens in order, best first and equals by id; then top_k, the filters and the draw."""
    scores = row.double().numpy()
    order = np.lexsort((np.arange(len(scores)), -scores))
    options = FilterOptions.of([params], len(scores))
    masses = np.exp((scores[order] - scores.max()) / params.temperature)
    masses[int(options.top_k[0]) :] = 0
    probs = filter_probs((masses / masses.sum())[None], options)
    return int(order[pick(probs, np.array([draw]))[0]])


filters = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.3, 0.8, 1.5]),
        "top_k": st.sampled_from([0, 1, 2, 40, 150, 700, 5000, 10**6]),
    },
    optional={
        "top_p": st.sampled_from([0.0, 0.3, 0.9, 0.999]),
        "min_p": st.sampled_from([0.01, 0.2, 1.0]),
        "typical_p": st.sampled_from([0.2, 0.9]),
        "top_h": st.sampled_from([0.3, 0.9]),
        "epsilon_cutoff": st.sampled_from([3e-4, 0.05]),
        "eta_cutoff": st.sampled_from([2e-3, 0.05]),
    },
)


@given(
    options=filters,
    seed=st.integers(0, 50),
    draw=st.floats(0.001, 0.999),
    spread=st.sampled_from([0.0, 0.05, 1.0, 4.0]),
)
@hypothesis_settings(max_examples=150, deadline=None)
def test_a_window_chooses_what_everything_chooses(
    options: dict[str, Any], seed: int, draw: float, spread: float
) -> None:
    params = SamplingParams(**({"top_p": 1.0} | options))
    row = random_rows(seed, spread=spread)
    is_free = params.top_k in (0, 10**6) and not (options.keys() - {"temperature", "top_k"})
    if not is_free:  # the whole distribution is drawn from in the order of ids
        assert choose_tokens(row, [params], [draw]) == [chosen_from_everything(row[0], params, draw)]


@given(
    mine=filters,
    mates=st.lists(filters, min_size=1, max_size=5),
    seed=st.integers(0, 50),
    draw=st.floats(0, 0.999),
    is_greedy=st.booleans(),
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_a_row_is_chosen_alike_alone_and_in_any_batch(
    mine: dict[str, Any], mates: list[dict[str, Any]], seed: int, draw: float, is_greedy: bool
) -> None:
    params = SamplingParams(**mine | ({"temperature": 0.0} if is_greedy else {}))
    rows = random_rows(seed, rows=len(mates) + 1)
    alone = choose_tokens(rows[-1:], [params], [draw])
    batch = [*(SamplingParams(**mate) for mate in mates), params]
    draws = [0.5] * len(mates) + [draw]
    assert choose_tokens(rows, batch, draws)[-1:] == alone
    # penalties of a batch mate make single precision of all rows
    assert choose_tokens(rows.float(), batch, draws)[-1:] == alone


@pytest.mark.parametrize("width", [1, 25, 200, 300, 5000, VOCAB])
@pytest.mark.parametrize("spread", [0.01, 3.0])
def test_candidates_are_the_best_and_equals_come_by_id(width: int, spread: float) -> None:
    rows = random_rows(3, spread=spread, rows=3)
    found = top_candidates(rows, width)
    for at, row in enumerate(rows.double().numpy()):
        order = np.lexsort((np.arange(VOCAB), -row))
        assert found.scores[at].tolist() == row[order[:width]].tolist()
        sure = int(found.num_sure[at])
        assert found.ids[at, :sure].tolist() == order[:sure].tolist()
        assert sure == width or row[order[sure]] == row[order[width - 1]]


@given(options=filters, num_left=st.integers(1, 30), draw=st.floats(0.001, 0.999))
@hypothesis_settings(max_examples=50, deadline=None)
def test_what_a_grammar_leaves_is_all_there_is_to_choose_from(
    options: dict[str, Any], num_left: int, draw: float
) -> None:
    row = torch.full((1, VOCAB), -math.inf)
    row[0, 7 : 7 * num_left + 1 : 7] = random_rows(num_left)[0, :num_left].float()
    found = top_candidates(row, 64)
    assert found.num_sure.tolist() == [VOCAB], "nothing else has to be looked at"
    params = SamplingParams(**({"top_p": 0.95} | options))
    assert choose_tokens(row, [params], [draw]) == [chosen_from_everything(row[0], params, draw)]


def test_the_whole_distribution_is_drawn_from_in_the_order_of_ids() -> None:
    row = torch.full((1, VOCAB), -math.inf)
    row[0, [7, 9_000, 16_420]] = torch.tensor([0.25, 0.5, 0.25]).log()
    draws = {0.0: 7, 0.2499: 7, 0.2501: 9_000, 0.7499: 9_000, 0.7501: 16_420, math.nextafter(1.0, 0.0): 16_420}
    params = SamplingParams(temperature=1.0, top_k=0, top_p=1.0)
    assert {draw: choose_tokens(row, [params], [draw])[0] for draw in draws} == draws


@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"top_k": 0}, {"top_k": 0, "top_p": 1.0}])
@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_no_number_is_no_token(options: dict[str, Any], bad: float | None) -> None:
    rows = random_rows(1, rows=3)
    if bad is None:
        rows[1] = -math.inf
    else:
        rows[1, 16_419] = bad
    tokens = choose_tokens(rows, [SamplingParams(**options)] * 3, [0.5] * 3)
    assert [token == NO_TOKEN for token in tokens] == [False, True, False]
