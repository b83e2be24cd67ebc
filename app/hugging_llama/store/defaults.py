"""The sampling defaults that a model's own generation_config.json asks for."""

import json
from pathlib import Path
from typing import Any

from hugging_llama.neutral.requests import SamplingParams

_MAX_BYTES = 1 << 20
_LARGEST = 2**31
_NAMES = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
    "max_new_tokens": "max_tokens",
}


def sampling_defaults(model_path: str) -> dict[str, Any]:
    """SamplingParams fields by name, only those that the model's authors set; a broken file sets none."""
    path = Path(model_path) / "generation_config.json"
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(config, dict):
        return {}
    found = {field: config[name] for name, field in _NAMES.items() if _is_sane(name, config.get(name))}
    if config.get("do_sample") is False and "temperature" not in found:
        found["temperature"] = 0.0
    return found


def _is_sane(name: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        return False
    expected = getattr(SamplingParams(), _NAMES[name])
    if name == "max_new_tokens" or isinstance(expected, int):
        return isinstance(value, int)
    if name in ("top_p", "min_p", "typical_p"):
        return value <= 1
    return name != "repetition_penalty" or value > 0
