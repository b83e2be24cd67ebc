"""The sampling defaults that a model's own generation_config.json asks for."""

from pathlib import Path
from typing import Any

from hugging_llama.neutral.requests import SamplingParams
from hugging_llama_config.regular_file import open_regular
from hugging_llama_config.small_files import parse_json

GENERATION_CONFIG = "generation_config.json"
_MAX_BYTES = 1 << 20
_LARGEST = 2**31
_NAMES = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "top_h": "top_h",
    "epsilon_cutoff": "epsilon_cutoff",
    "eta_cutoff": "eta_cutoff",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
}
_LISTS = {
    "suppress_tokens": "suppress_tokens",
    "begin_suppress_tokens": "begin_suppress_tokens",
    "bad_words_ids": "bad_words",
}
_MOST_IDS = 10_000
HUB_NAMES = {
    **{field: name for name, field in _NAMES.items()},
    "suppress_tokens": "suppress_tokens",
    "begin_suppress_tokens": "begin_suppress_tokens",
    "num_beams": "num_beams",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
}
"""SamplingParams fields whose values mean the same in transformers' GenerationConfig, and their names there.

`stop` is not among them: with `stop_strings` in a model's files `generate` fails for all who don't hand it a tokenizer.
"""


def sampling_defaults(model_path: str) -> dict[str, Any]:
    """SamplingParams fields by name, only those that the model's authors set; a broken file sets none.

    `num_beams` is not among them: beams cost a caller who did not ask for them much, and rule out other things.
    """
    path = Path(model_path) / GENERATION_CONFIG
    try:
        with open_regular(path) as file:
            text = file.read(_MAX_BYTES + 1)
        config = parse_json(GENERATION_CONFIG, text) if len(text) <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(config, dict):
        return {}
    found = {field: config[name] for name, field in _NAMES.items() if _is_sane(name, config.get(name))}
    for name, field in _LISTS.items():
        value = config.get(name)
        if isinstance(value, list) and 0 < len(value) <= _MOST_IDS:
            read = _token_runs if name == "bad_words_ids" else _token_ids
            if (ids := read(value)) is not None:
                found[field] = ids
    if config.get("do_sample") is False and "temperature" not in found:
        found["temperature"] = 0.0
    return found


def _is_sane(name: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        return False
    expected = getattr(SamplingParams(), _NAMES[name])
    if name == "max_new_tokens" or isinstance(expected, int):
        return isinstance(value, int)
    if name in ("top_p", "min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff"):
        return value <= 1
    return name != "repetition_penalty" or value > 0


def _token_ids(values: Any) -> tuple[int, ...] | None:
    """None if that is no list of token ids."""
    if not isinstance(values, list) or len(values) > _MOST_IDS:
        return None
    are_ids = all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST for value in values)
    return tuple(values) if are_ids else None


def _token_runs(values: list[Any]) -> tuple[tuple[int, ...], ...] | None:
    runs = [_token_ids(value) for value in values]
    return tuple(run for run in runs if run) if None not in runs else None
