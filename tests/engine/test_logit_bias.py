"""Biases and forbidden tokens, against transformers' processors and in whole generations."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from hugging_llama.engine.logit_bias import LogitBias, make_logit_bias
from hugging_llama.engine.sampling import adjust
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.checkpoints import byte_tokenizer
from tests.engine.harness import make_sequence

VOCAB = 40
EOS = 39


def encode(text: str) -> list[int]:
    return list(byte_tokenizer().encode(text, add_special_tokens=False))


def bias_of(**options: Any) -> LogitBias | None:
    return make_logit_bias(SamplingParams(**options), encode, vocab_size=VOCAB, eos_token_ids=[EOS])


def after(prompt: list[int], output: list[int], **options: Any) -> torch.Tensor:
    """Logits of the next token, all 0 before the options."""
    sequence = make_sequence(1, prompt, SamplingParams(**options), bias=bias_of(**options))
    for token_id in output:
        sequence.append_token(token_id, 0)
    rows = torch.zeros(1, VOCAB)
    adjust(rows, [sequence])
    return rows


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(
    prompt=tokens,
    output=tokens,
    runs=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=1, max_size=5),
)
@hypothesis_settings(max_examples=100)
def test_bad_words_are_those_of_transformers(prompt: list[int], output: list[int], runs: list[list[int]]) -> None:
    expected = NoBadWordsLogitsProcessor(runs)(torch.tensor([prompt + output]), torch.zeros(1, VOCAB))
    assert torch.equal(after(prompt, output, bad_words=tuple(map(tuple, runs))), expected)


@pytest.mark.parametrize("num_output", [0, 1, 2, 3])
def test_the_beginning_and_the_end_are_those_of_transformers(num_output: int) -> None:
    prompt, output = [1, 2, 3], [4] * num_output
    ids = torch.tensor([prompt + output])
    zeros = torch.zeros(1, VOCAB)
    begin: Any = SuppressTokensAtBeginLogitsProcessor([5, 6], len(prompt))
    assert torch.equal(after(prompt, output, begin_suppress_tokens=(5, 6)), begin(ids, zeros))
    end: Any = MinNewTokensLengthLogitsProcessor(len(prompt), 2, EOS)
    assert torch.equal(after(prompt, output, min_tokens=2), end(ids, zeros))
    both = after(prompt, output, min_tokens=1, begin_suppress_tokens=(5,))
    assert torch.isinf(both).nonzero()[:, 1].tolist() == ([5, EOS] if num_output == 0 else [])
    never: Any = SuppressTokensLogitsProcessor([7, 8])
    assert torch.equal(after(prompt, output, suppress_tokens=(7, 8)), never(ids, zeros))


def test_logit_bias_is_added_before_penalties() -> None:
    biased = after([1], [2], logit_bias=((3, 2.5), (4, -1.0), (3, 0.5)))
    expected: Any = SequenceBiasLogitsProcessor([[[3], 3.0], [[4], -1.0]])
    assert torch.equal(biased, expected(torch.tensor([[1, 2]]), torch.zeros(1, VOCAB)))
    assert after([1], [2], logit_bias=((2, 3.0),), repetition_penalty=2.0)[0, 2] == 1.5
    assert after([1], [2], logit_bias=((2, 3.0),), suppress_tokens=(2,))[0, 2] == -math.inf


def test_text_stands_for_its_token() -> None:
    assert after([1], [], logit_bias=(("!", 2.0),))[0, encode("!")[0]] == 2.0
    banned = torch.isinf(after([1], [], bad_words=("!",)))[0].nonzero()[:, 0].tolist()
    assert banned == encode("!")
    with pytest.raises(InvalidRequestError, match="'!!' is 2 tokens of this model"):
        bias_of(logit_bias=(("!!", 1.0),))
    with pytest.raises(InvalidRequestError, match="has no token 40"):
        bias_of(logit_bias=((VOCAB, 1.0),))


def test_ids_outside_of_the_vocabulary_never_come_anyway() -> None:
    assert bias_of(suppress_tokens=(VOCAB,), bad_words=((1, VOCAB),)) is None
    assert bias_of() is None


@pytest.mark.parametrize("word", ["!" * 257, (1,) * 257])
def test_a_bad_word_of_too_many_tokens_is_refused(word: str | tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequestError, match="at most 256"):
        bias_of(bad_words=(word,))
