"""Looks at the tokens that a model's files add, wherever the library looks for them. Raises ModelLoadError."""

from pathlib import Path
from typing import Any

from hugging_llama.engine.model_files import read_any_json, read_content
from hugging_llama.errors import ModelLoadError
from hugging_llama_config.vocabulary_files import MAX_BYTES, MOST_TOKENS, is_plain_vocabulary, plain_vocabulary_problem
from hugging_llama_config.vocabulary_limits import MOST_ADDED, added_texts_problem, token_texts, vocabulary_problem

_NAMES_TOKENS = ("_token", "_tokens")
_COUNTS = ("extra_ids", "offset")
"""Of special tokens that a class makes by itself: T5's kind and Pegasus."""
_MOST_SPECIAL = 10_000
"""Each one is looked for in a list of all tokens that are added."""


def check_vocabulary_files(folder: Path) -> list[str]:
    """What a library may read tokens from, but for tokenizer.json. Returns the tokens that these files add."""

    def found(name: str) -> dict[str, Any]:
        value = read_any_json(folder / name) if (folder / name).is_file() else {}
        return value if isinstance(value, dict) else {}

    added, num_special = found("added_tokens.json"), 0
    num_added, texts = len(added), list(added)
    _check("added_tokens.json", added)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        settings = found(name)
        decoder = settings.get("added_tokens_decoder")
        _check(name, None, decoder)
        num_added += _size(decoder)
        named = [value for key, value in settings.items() if key.endswith(_NAMES_TOKENS)]
        texts += (own_texts := [text for value in named for text in token_texts(value)])
        num_special += len(own_texts) + sum(n for key in _COUNTS if isinstance(n := settings.get(key), int) and n > 0)
        if problem := added_texts_problem(own_texts):
            raise ModelLoadError(f"the model's {name} {problem}")
        texts += token_texts(decoder)
    if num_special > _MOST_SPECIAL:
        raise ModelLoadError(f"the model's files name {num_special} special tokens; {_MOST_SPECIAL} are the most")
    if num_added > MOST_ADDED:
        raise ModelLoadError(f"the model's files add {num_added} tokens to its vocabulary; {MOST_ADDED} are the most")
    if problem := added_texts_problem(texts):
        raise ModelLoadError(f"the model's tokenizer {problem}")
    # beside a tokenizer.json others are read by tokenizers in Python, which keep them as they are
    if not (folder / "tokenizer.json").is_file():
        _check_own_vocabulary(folder, found("vocab.json"))
    return texts


def _check_own_vocabulary(folder: Path, vocab: dict[str, Any]) -> None:
    """What a tokenizer is made of where there is none yet."""
    _check("vocab.json", vocab)
    if len(vocab) > MOST_TOKENS:
        raise ModelLoadError(f"the model's vocab.json has {len(vocab)} tokens; {MOST_TOKENS} are the most")
    for file in sorted(folder.glob("*")):
        if is_plain_vocabulary(file.name) and file.is_file():
            _check_plain(file)


def _check_plain(file: Path) -> None:
    try:
        content = read_content(file, MAX_BYTES)
    except OSError:
        raise ModelLoadError(f"the model's {file.name} can't be read") from None
    if problem := plain_vocabulary_problem(file.name, content):
        raise ModelLoadError(f"the model's {file.name} {problem}")


def _check(name: str, vocab: Any, added: Any = None) -> None:
    if problem := vocabulary_problem(vocab, added):
        raise ModelLoadError(f"the model's {name} {problem}")


def _size(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0
