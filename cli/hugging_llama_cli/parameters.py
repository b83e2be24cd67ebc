"""Parameters as people write them, typed as the server's options want them. The names are the server's to know."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from hugging_llama_cli.api import Json

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
