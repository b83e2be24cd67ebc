"""What a model's generation_config.json asks for."""

import json
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.neutral.requests import SamplingParams
from hugging_llama.store.defaults import sampling_defaults


def defaults(folder: Path, config: Any) -> dict[str, Any]:
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "generation_config.json").write_text(text)
    found = sampling_defaults(str(folder))
    SamplingParams(**found)
    return found


def test_every_default_that_can_be_served(tmp_path: Path) -> None:
    config = {
        "temperature": 0.5, "top_k": 7, "top_p": 0.8, "min_p": 0.1, "typical_p": 0.9, "top_h": 0.4,
        "epsilon_cutoff": 3e-4, "eta_cutoff": 2e-3, "repetition_penalty": 1.1, "no_repeat_ngram_size": 3,
        "max_new_tokens": 9, "min_new_tokens": 2, "suppress_tokens": [1, 2], "begin_suppress_tokens": [3],
        "bad_words_ids": [[4, 5], [6]], "num_beams": 4, "eos_token_id": 0,
    }  # fmt: skip
    assert defaults(tmp_path, config) == {
        "temperature": 0.5, "top_k": 7, "top_p": 0.8, "min_p": 0.1, "typical_p": 0.9, "top_h": 0.4,
        "epsilon_cutoff": 3e-4, "eta_cutoff": 2e-3, "repetition_penalty": 1.1, "no_repeat_ngram_size": 3,
        "max_tokens": 9, "min_tokens": 2, "suppress_tokens": (1, 2), "begin_suppress_tokens": (3,),
        "bad_words": ((4, 5), (6,)),
    }  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        {"top_p": 2, "epsilon_cutoff": -1, "eta_cutoff": 3, "top_h": "x", "min_new_tokens": 0.5},
        {"suppress_tokens": [-1], "begin_suppress_tokens": 5, "bad_words_ids": [4]},
        {"suppress_tokens": [], "begin_suppress_tokens": ["a"], "bad_words_ids": [[4, True]]},
        {"suppress_tokens": None, "bad_words_ids": [[2**40]], "top_k": None},
        [],
        "{",
    ],
)
def test_what_makes_no_sense_is_left_out(tmp_path: Path, config: Any) -> None:
    assert defaults(tmp_path, config) == {}


def test_greedy_models_stay_greedy(tmp_path: Path) -> None:
    assert defaults(tmp_path, {"do_sample": False}) == {"temperature": 0.0}
    assert defaults(tmp_path, {"do_sample": False, "temperature": 0.6}) == {"temperature": 0.6}
    assert sampling_defaults(str(tmp_path / "nowhere")) == {}
