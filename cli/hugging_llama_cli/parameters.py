"""Parameters as people write them, typed as the server's options want them. What values they take is the server's to
know."""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from hugging_llama_cli.api import Json
from hugging_llama_cli.errors import CliError

DEPRECATED = frozenset(
    {
        "f16_kv",
        "logits_all",
        "low_vram",
        "mirostat",
        "mirostat_eta",
        "mirostat_tau",
        "num_gqa",
        "numa",
        "penalize_newline",
        "tfs_z",
        "use_mlock",
        "vocab_only",
    }
)
"""What old Modelfiles still hold; Ollama, too, goes on without them after a warning."""

KNOWN = frozenset(
    {
        "bad_words", "bad_words_ids", "begin_suppress_tokens", "do_sample", "draft_num_predict", "early_stopping",
        "epsilon_cutoff", "eta_cutoff", "frequency_penalty", "length_penalty", "logit_bias", "main_gpu",
        "max_new_tokens", "max_tokens", "min_new_tokens", "min_p", "no_repeat_ngram_size", "num_batch", "num_beams",
        "num_ctx", "num_gpu", "num_keep", "num_predict", "num_thread", "presence_penalty", "prompt_lookup_num_tokens",
        "repeat_last_n", "repeat_penalty", "repetition_penalty", "seed", "stop", "stop_strings", "suppress_tokens",
        "temperature", "thinking_budget", "top_h", "top_k", "top_p", "typical_p", "use_cache", "use_mmap",
    }
)  # fmt: skip
"""The options of the server; it ignores others."""

_TEXTS = frozenset({"stop", "stop_strings"})
_LISTS = _TEXTS | {"bad_words", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens"}
_NUMBER = re.compile(r"[+-]?(?:\d+(\.\d*)?|(\.\d+))([eE][+-]?\d+)?", re.ASCII)
_MAX_NUMBER = 100


def typed_parameters(pairs: Iterable[tuple[str, str]]) -> Json:
    """Of a name that comes more than once the last value counts; a list's values add up."""
    found: Json = {}
    for name, text in pairs:
        if name in _LISTS:
            found.setdefault(name, []).extend(_items(name, text))
        else:
            found[name] = _typed(text)
    return found


def parse_parameter(name: str, words: Sequence[str]) -> Any:
    """One parameter whose value a shell, or `/set parameter`, has split into words; each is an item of a stop list."""
    texts = words if name in _TEXTS else [" ".join(words)]
    return typed_parameters((name, text) for text in texts)[name]


def check_name(name: str) -> None:
    """Raises CliError for one that the server would ignore."""
    if name in DEPRECATED:
        raise CliError(f"parameter '{name}' is deprecated and has no effect")
    if name not in KNOWN:
        near = difflib.get_close_matches(name, KNOWN, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(KNOWN))}"
        raise CliError(f"unknown parameter '{name}'; {hint}")


def _items(name: str, text: str) -> list[Any]:
    """One item, or several written as a JSON array; a stop text is never anything but itself."""
    if name in _TEXTS:
        return [text]
    value = _typed(text)
    if name == "bad_words":
        is_texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return value if is_texts else [text]
    is_run = isinstance(value, list) and not any(isinstance(item, list) for item in value)
    return value if isinstance(value, list) and not (name == "bad_words_ids" and is_run) else [value]


def _typed(text: str) -> Any:
    """A number, a truth value, a JSON array or object by its looks, else the text."""
    stripped = text.strip()
    if stripped.lower() in ("true", "false"):
        return stripped.lower() == "true"
    if len(stripped) <= _MAX_NUMBER and (number := _NUMBER.fullmatch(stripped)):
        return float(stripped) if any(number.groups()) else int(stripped)
    try:
        value = json.loads(stripped)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, list | dict) else text
