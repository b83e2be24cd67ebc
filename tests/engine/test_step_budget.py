"""The size of a prompt's chunks follows what they cost."""

from hugging_llama.engine.step_budget import StepBudget


def make() -> StepBudget:
    return StepBudget(fixed=0, lowest=8, highest=512, target_s=0.2)


def test_alone_a_prompt_gets_the_largest_chunk() -> None:
    assert make().tokens(num_decode=0) == 512


def test_beside_streams_the_first_chunk_is_careful_and_then_it_fits_the_target() -> None:
    budget = make()
    budget.observe(0.02, num_prefill=0, num_decode=4)
    assert budget.tokens(num_decode=4) == 8
    budget.observe(0.02 + 8 * 0.001, num_prefill=8, num_decode=4)
    assert 178 <= budget.tokens(num_decode=4) <= 180, "0.2 s less a decode step, by 1 ms a token"


def test_a_dearer_token_counts_at_once_and_a_cheaper_one_slowly() -> None:
    budget = make()
    budget.observe(0.1, num_prefill=100, num_decode=0)
    assert budget.tokens(num_decode=1) == 200
    budget.observe(1.0, num_prefill=100, num_decode=0)
    assert budget.tokens(num_decode=1) == 20
    budget.observe(0.1, num_prefill=100, num_decode=0)
    assert 20 < budget.tokens(num_decode=1) < 40


def test_a_slow_machine_still_gets_on() -> None:
    budget = make()
    budget.observe(5.0, num_prefill=0, num_decode=1)
    budget.observe(50.0, num_prefill=8, num_decode=1)
    assert budget.tokens(num_decode=1) == 8


def test_a_fixed_budget_is_shared_with_decode_rows() -> None:
    budget = StepBudget(fixed=16, lowest=8, highest=512, target_s=0.2)
    assert [budget.tokens(num_decode=n) for n in (0, 5, 40)] == [16, 11, 1]
