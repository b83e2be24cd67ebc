"""The options object."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.dialects.ollama.options import OPTIONS, REFUSED, WITHOUT_EFFECT, parse_options
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.requests import SamplingParams
from hugging_llama_cli.parameters import DEPRECATED, KNOWN


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
        (
            {"top_h": 0.4, "epsilon_cutoff": 3e-4, "eta_cutoff": 2e-3},
            {"top_h": 0.4, "epsilon_cutoff": 3e-4, "eta_cutoff": 2e-3},
        ),
        ({"min_new_tokens": 3}, {"min_tokens": 3}),
        ({"num_keep": 12}, {"num_keep": 12}),
        ({"num_keep": -1}, {"num_keep": -1}),
        ({"draft_num_predict": 4}, {"num_draft_tokens": 4}),
        ({"prompt_lookup_num_tokens": 4}, {"num_draft_tokens": 4}),
        ({"logit_bias": {"15": -100, " Paris": 2.5}}, {"logit_bias": ((15, -100.0), (" Paris", 2.5))}),
        ({"bad_words": ["no", ""]}, {"bad_words": ("no",)}),
        ({"bad_words_ids": [[1, 2], [3]], "bad_words": ["no"]}, {"bad_words": ("no", (1, 2), (3,))}),
        (
            {"suppress_tokens": [1, 2], "begin_suppress_tokens": [3]},
            {"suppress_tokens": (1, 2), "begin_suppress_tokens": (3,)},
        ),
        ({"stop_strings": ["a"]}, {"stop": ("a",)}),
        ({"num_beams": 4, "early_stopping": "never"}, {"num_beams": 4, "early_stopping": "never"}),
        ({"length_penalty": 2, "early_stopping": True}, {"length_penalty": 2.0, "early_stopping": True}),
        ({"num_return_sequences": 1, "penalty_alpha": 0.0, "token_healing": False, "max_time": None}, {}),
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
        ({"num_keep": -2}, 'option "num_keep" must be at least -1, not -2'),
        ({"num_batch": "512"}, 'option "num_batch" must be of type integer'),
        ({"num_gpu": 1.0, "use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"logit_bias": [1]}, 'option "logit_bias" must be of type object'),
        ({"logit_bias": {"1": "x"}}, 'option "logit_bias" must hold numbers between -10000 and 10000'),
        ({"logit_bias": {"1": 1e9}}, 'option "logit_bias" must hold numbers between -10000 and 10000'),
        ({"bad_words": "no"}, 'option "bad_words" must be of type array'),
        ({"bad_words": [1]}, 'option "bad_words" must be of an array of strings'),
        ({"bad_words_ids": [1]}, 'option "bad_words_ids" must be of an array of arrays of token ids'),
        ({"bad_words_ids": [[]]}, 'option "bad_words_ids" must be of an array of arrays of token ids'),
        ({"suppress_tokens": [-1]}, 'option "suppress_tokens" must be of an array of token ids'),
        ({"suppress_tokens": [1] * 10_001}, 'option "suppress_tokens" has more than 10000 items'),
        ({"early_stopping": "soon"}, 'option "early_stopping" must be of type boolean, or "never"'),
        (
            {"no_repeat_ngram_size": 257},
            'option "no_repeat_ngram_size" must be between 0 and 256, not 257',
        ),
        ({"num_beams": 0}, 'option "num_beams" must be between 1 and 16, not 0'),
        ({"num_return_sequences": 2}, 'option "num_return_sequences" other than 1 is not supported'),
        ({"penalty_alpha": 0.6}, 'option "penalty_alpha" other than 0 is not supported'),
        ({"token_healing": True}, 'option "token_healing" other than false is not supported'),
        ({"max_time": 3}, 'option "max_time" is not supported'),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_options(options)
    assert caught.value.message == message


def test_unknown_options_are_ignored_and_told() -> None:
    parsed = parse_options({"mirostat": 1, "seed": 3, "numa": None})
    assert (parsed.sampling, parsed.unknown) == ({"seed": 3}, ("mirostat",))


def test_options_of_the_servers_own_have_no_effect_and_are_told() -> None:
    parsed = parse_options({"num_gpu": 0, "num_thread": 4, "use_mmap": True, "top_k": 3})
    assert parsed.sampling == {"top_k": 3}
    assert parsed.without_effect == ("num_gpu", "num_thread", "use_mmap")


def test_every_option_sets_a_field() -> None:
    known = {field.name for field in fields(SamplingParams)} | {"context_length", "do_sample", "bad_words_ids"}
    assert {option.field for option in OPTIONS.values()} <= known
    assert not OPTIONS.keys() & WITHOUT_EFFECT.keys()
    assert not OPTIONS.keys() & REFUSED.keys()


@given(
    st.dictionaries(
        st.sampled_from(sorted([*OPTIONS, *WITHOUT_EFFECT, *REFUSED])),
        st.sampled_from(
            [-1, 0, 1, 2**31, 2**63, 1e308, float("nan"), float("inf"), "5", True, None, [], {}, 0.5, [[1]], {"a": 1}]
        ),
    )
)
def test_any_option_value_is_taken_or_refused(options: dict[str, Any]) -> None:
    try:
        parsed = parse_options(options)
    except InvalidRequestError:
        return
    SamplingParams(**parsed.sampling)


def test_the_command_line_knows_them_all() -> None:
    assert OPTIONS.keys() | WITHOUT_EFFECT.keys() == KNOWN
    assert not DEPRECATED & (KNOWN | REFUSED.keys())
