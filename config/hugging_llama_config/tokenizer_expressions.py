"""Regular expressions in a tokenizer's rules. They come from strangers.

On a text they hold up nobody but those who use this model. On the tokens that a load adds, and on those of an answer,
the tokenizers library runs them while no other thread of the process gets its turn.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from hugging_llama_config.tokenizer_limits import rules

_ATOM = r"(?:\\[^pP\d]|\\[pP]\{\w+\}|\[(?:\\.|[^\[\]\\])+\]|[^\\\[\](){}|*+?^$])"
_ALTERNATIVE = rf"\^?(?:{_ATOM}+(?:[*+?]|\{{\d+,?\d*\}}))?{_ATOM}*\$?"  # one way to read it, however long it is
_PLAIN = re.compile(rf"{_ALTERNATIVE}(?:\|{_ALTERNATIVE})*")
"""With one repetition of one character in each alternative: time by the square of a text's length, at worst. Real ones
are ` {2,}` and `\\s{2,}|[\\n\\r\\t]`."""
_MOST_PATTERNS = 16_384
"""Characters of all expressions of a file: to compile them takes up to 20 us each, while nobody else gets a turn. Real
ones have some thousand."""
_LONGEST_PLAIN = 200
_MOST_STEPS = 2**28
"""About a second."""
_MOST_CHARACTERS = 128
"""Of all tokens, for an expression of any kind: the library gives one up after ten million steps at each of them."""


def expression_problem(parts: Mapping[str, Any], added: Collection[str]) -> str:
    """Why a tokenizer of these parts must not be loaded, as the end of a sentence about its file; "" if it may be.

    `added` are the tokens that its normalizer is applied to."""
    size = sum(map(len, _expressions(list(parts.values()))))
    if size > _MOST_PATTERNS:
        return f"has {size} characters of regular expressions; {_MOST_PATTERNS} are the most"
    if _expressions(parts.get("decoder")):
        return "has a regular expression in its decoder, which could take minutes for a token; a text works there"
    patterns = _expressions(parts.get("normalizer"))
    is_plain = all(len(pattern) <= _LONGEST_PLAIN and _PLAIN.fullmatch(pattern) for pattern in patterns)
    num_steps = sum(map(len, patterns)) * sum(len(text) ** 2 for text in added)
    if patterns and (num_steps > _MOST_STEPS if is_plain else sum(map(len, added)) > _MOST_CHARACTERS):
        return "has a regular expression in its normalizer, which could take minutes for the tokens that are added"
    return ""


def _expressions(part: Any) -> list[str]:
    patterns = [rule.get("pattern") for rule in rules(part)]
    found = [pattern.get("Regex") for pattern in patterns if isinstance(pattern, dict)]
    return [text for text in found if isinstance(text, str)]
