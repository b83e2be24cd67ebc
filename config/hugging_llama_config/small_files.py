"""How large a model's files may be that libraries read whole, and how much JSON in them may hold. They come from
strangers.

Every sentence here is the end of one about the file.
"""

import json
import re
from typing import Any

from hugging_llama_config.json_values import Counts, count_all, count_outside, is_deeper
from hugging_llama_config.model_limits import MOST_TENSORS
from hugging_llama_config.vocabulary_files import JSON_VOCABULARIES, MAX_BYTES, is_plain_vocabulary
from hugging_llama_config.vocabulary_limits import MOST_IDS

MOST_JSON_BYTES = 64 * 2**20
MOST_TOKENIZER_BYTES = 128 * 2**20
_MOST_TEMPLATE_BYTES = 4 * 2**20
"""Of one, and of all in a folder. Real ones have some ten thousand."""

MOST_PARTS = 1_500_000
"""Lists and objects, of any file: a million of merges or of tokens with their weights are pairs, each a list."""
_MOST_VALUES = 200_000
"""A configuration names 50,000 labels by their numbers and the other way round."""
_MOST_TOKENIZER_VALUES = 6_000_000
"""A million of tokens, as many merges, and 65,536 sounds."""
_MOST_VOCABULARY_VALUES = MOST_IDS + 100_000
_MOST_OTHER_VALUES = 1_000_000
"""65,536 added tokens have seven fields each; and what no library may read can be a list of tokens."""
_MOST_INDEX_VALUES = MOST_TENSORS + 100_000

_MOST_DEPTH = 100
"""Real ones have ten levels. Whatever walks through a value by calling itself ends near a thousand, or far below."""

TOKENIZER_FILE = re.compile(r"tokenizer(\..*)?\.json")
"""transformers may choose one with a version."""
_INDEX = re.compile(r".*\.index(\.[\w-]+)?\.json")
_CONFIGURATION = re.compile(r"(?!tokenizer_)(\w+_)?config\.json|config_\w+\.json|modules\.json|.*(?<!\.json)")
UNREAD = r"trainer_state\.json|\w+_results\.json|unigram\.json"
"""Files that lie beside a model's; no library reads them for a load. The last are a tokenizer's tokens once more."""
_UNREAD = re.compile(UNREAD)


class TooManyValuesError(ValueError):
    """A file in JSON holds too much to be read; the message is the end of a sentence."""


class FolderSizes:
    """The files of one folder, one after the other."""

    def __init__(self) -> None:
        self._template_bytes = 0

    def problem(self, name: str, num_bytes: int) -> str:
        """As `size_problem`, also for what the templates seen so far take together."""
        self._template_bytes += num_bytes if _is_template(name) else 0
        return "is too large" if self._template_bytes > _MOST_TEMPLATE_BYTES else size_problem(name, num_bytes)


def _is_template(name: str) -> bool:
    """Whether a library reads it as a chat template."""
    return name.endswith(".jinja")


def size_problem(name: str, num_bytes: int) -> str:
    """Why a file of this name and size must not be read whole; "" if it may be, or never is."""
    return "is too large" if num_bytes > _most_bytes(name) else ""


def values_problem(name: str, content: bytes) -> str:
    """Why nothing may be made of this file, which is JSON; "" if it may be."""
    most = _most_values(name)
    if _fits(count_all(content), most) or _fits(count_outside(content, 2 * most), most):
        return "is nested too deeply" if is_deeper(content, _MOST_DEPTH) else ""
    return f"holds too much: it may have {most:,} values, and {min(most, MOST_PARTS):,} lists and objects"


def parse_json(name: str, content: bytes) -> Any:
    """What the file holds. Raises TooManyValuesError, ValueError, RecursionError."""
    if problem := values_problem(name, content):
        raise TooManyValuesError(problem)
    return json.loads(content.decode("utf-8-sig"))  # in UTF-16, which Python would read, too, they can't be counted


def is_json(name: str) -> bool:
    """Whether a library may read it as JSON."""
    return name.endswith(".json") and not _UNREAD.fullmatch(name)


def _most_bytes(name: str) -> float:
    if _is_template(name):
        return _MOST_TEMPLATE_BYTES
    if is_json(name):
        return MOST_TOKENIZER_BYTES if TOKENIZER_FILE.fullmatch(name) else MOST_JSON_BYTES
    # sentence-transformers keeps the read-me
    return MAX_BYTES if name == "README.md" or is_plain_vocabulary(name) else float("inf")


def _most_values(name: str) -> int:
    if TOKENIZER_FILE.fullmatch(name):
        return _MOST_TOKENIZER_VALUES
    if name in JSON_VOCABULARIES:
        return _MOST_VOCABULARY_VALUES
    if _INDEX.fullmatch(name):
        return _MOST_INDEX_VALUES
    return _MOST_VALUES if _CONFIGURATION.fullmatch(name) else _MOST_OTHER_VALUES


def _fits(counts: Counts | None, most: int) -> bool:
    return counts is not None and counts.commas + counts.parts <= most and counts.parts <= MOST_PARTS
