"""The options object."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.dialects.ollama.options import OPTIONS, parse_options
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.requests import SamplingParams


@pytest.mark.parametrize(
    ("options", "sampling"),
    [
        ({"num_predict": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_new_tokens": 5}, {"max_tokens": 5}),
        ({"num_predict": -1}, {"max_tokens": None}),
        ({"num_predict": 0}, {"max_tokens": None}),
        ({"repeat_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"do_sample": False, "temperature": 0.9}, {"temperature": 0.0}),
        ({"do_sample": True, "temperature": 0.9}, {"temperature": 0.9}),
        ({"seed": -1}, {"seed": None}),
        ({"top_k": 3.7}, {"top_k": 3}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"temperature": None}, {}),
        ({"stop": ["a", ""]}, {"stop": ("a",)}),
        ({"typical_p": 0.5, "no_repeat_ngram_size": 2}, {"typical_p": 0.5, "no_repeat_ngram_size": 2}),
    ],
)
def test_every_dialect_of_names_is_understood(options: dict[str, Any], sampling: dict[str, Any]) -> None:
    assert parse_options(options).sampling == sampling


def test_num_ctx_is_the_context_length() -> None:
    parsed = parse_options({"num_ctx": 2048})
    assert parsed.context_length == 2048
    assert parsed.sampling == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"top_k": "5"}, 'option "top_k" must be of type integer'),
        ({"seed": True}, 'option "seed" must be of type integer'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
        ({"temperature": -1}, 'option "temperature" must be between 0 and 1000, not -1.0'),
        ({"num_ctx": 0}, 'option "num_ctx" must be at least 1, not 0'),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_options(options)
    assert caught.value.message == message


def test_unknown_options_are_ignored_and_told() -> None:
    parsed = parse_options({"mirostat": 1, "seed": 3, "numa": None})
    assert (parsed.sampling, parsed.unknown) == ({"seed": 3}, ("mirostat",))


@given(
    st.dictionaries(
        st.sampled_from(sorted(OPTIONS)),
        st.sampled_from([-1, 0, 1, 2**31, 2**63, 1e308, float("nan"), float("inf"), "5", True, None, [], {}, 0.5]),
    )
)
def test_any_option_value_is_taken_or_refused(options: dict[str, Any]) -> None:
    try:
        parsed = parse_options(options)
    except InvalidRequestError:
        return
    SamplingParams(**parsed.sampling)
