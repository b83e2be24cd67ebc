"""What a model's tokenizer.json may do to a text. It comes from strangers, and a few rules in a row that each write a
thousand letters for one fill any memory, beneath which the library ends its process."""

import base64
import binascii
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
"""The parts of the file that are looked at."""

MOST_GROWTH = 64
"""Real ones write at most three bytes for one (a sign for a space), a few ten."""
_MOST_AROUND = 1_000
"""Token ids that are put around one text; real ones put three."""
_MOST_RULES = 10_000
_SHORT_PREFIX = 4
_LONGEST_NORMAL_FORM = 64
"""Bytes that one character may become where Unicode's forms are written: 33 at most."""
_TOKEN_BYTES = 256
_SHAPES = (
    ("pattern", "content", "Replace"),
    ("prepend", "prepend", "Prepend"),
    ("precompiled_charsmap", "precompiled_charsmap", "Precompiled"),
    ("replacement", "replacement", "Metaspace"),
    ("clean_text", "clean_text", "BertNormalizer"),
    ("add_prefix_space", "add_prefix_space", "ByteLevel"),
    ("single", "special_tokens", "TemplateProcessing"),
)
"""Old files have no types: the library tells them from the fields."""
_ONCE = frozenset({"ByteLevel", "Metaspace", "BertNormalizer"})
_AGAIN = 4.0
"""Those lengthen a text, but not one that they have lengthened already in another order; several may."""


def tokenizer_problem(parts: Mapping[str, Any]) -> str:
    """Why a tokenizer of these PARTS must not be used, as the end of a sentence about its tokenizer.json; "" if it may
    be."""
    if sum(1 for _ in rules(list(parts.values()))) > _MOST_RULES:
        return "has too many rules"
    around = sum(_around(rule) for rule in rules(parts.get("post_processor")))
    if around > _MOST_AROUND:
        return f"puts {around} tokens around each text; {_MOST_AROUND} are the most"
    for growth, what in ((text_growth(parts), "text"), (_tree_growth(parts.get("decoder")), "answers")):
        if growth > MOST_GROWTH:
            return f"may make {what} {growth:.3g} times as long; {MOST_GROWTH} times is the most"
    return ""


def text_growth(parts: Mapping[str, Any]) -> float:
    """How many times as long a text may be when it has come through the rules, where they can be foreseen."""
    growth = _tree_growth([parts.get("normalizer"), parts.get("pre_tokenizer")], is_encoding=True)
    for rule in rules(parts.get("post_processor")):
        growth *= max(1, _copies(rule.get("single")), _copies(rule.get("pair")))
    return growth


def _tree_growth(tree: Any, *, is_encoding: bool = False) -> float:
    growth = alone = 1.0
    seen: set[str] = set()
    written = _written(tree)
    for rule in rules(tree):
        kind = _kind(rule)
        if kind == "Replace" and _finds(rule, written):
            growth *= _replaced(rule)
        elif kind == "Replace":
            alone = max(alone, _replaced(rule))
        elif kind == "Prepend":
            size = _size(rule.get("prepend"))
            growth *= 1 if size <= _SHORT_PREFIX and kind not in seen else 1 + size
        elif kind == "Precompiled":
            size = _longest_form(rule.get("precompiled_charsmap"))
            growth *= 1 if size <= _LONGEST_NORMAL_FORM and kind not in seen else max(size, 1)
        elif kind in _ONCE and is_encoding and kind in seen:
            growth *= _AGAIN
        seen.add(kind)
    return growth * alone


def _written(tree: Any) -> set[str] | None:
    """The characters that rules write, by their forms; None for any."""
    found: set[str] = set()
    for rule in rules(tree):
        match _kind(rule):
            case "Replace":
                found |= _folded(rule.get("content"))
            case "Prepend":
                found |= _folded(rule.get("prepend"))
            case "Precompiled":
                found |= _folded(b"".join(_forms(rule.get("precompiled_charsmap"))).decode(errors="ignore"))
            case "ByteLevel" | "Metaspace":
                return None
    return found


def _finds(rule: dict[str, Any], written: set[str] | None) -> bool:
    """Whether this one may lengthen what others have written, and not only what was there before."""
    text = _pattern(rule)
    return written is None or not (isinstance(text, str) and text) or not written.isdisjoint(_folded(text))


def _folded(text: Any) -> set[str]:
    return set(unicodedata.normalize("NFKD", text).casefold()) if isinstance(text, str) else set()


def rules(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects at any depth, without recursion: the depth is a stranger's, too."""
    left = [tree]
    while left:
        found = left.pop()
        if isinstance(found, dict):
            yield found
            left.extend(found.values())
        elif isinstance(found, list):
            left.extend(found)


def _kind(rule: dict[str, Any]) -> str:
    kind = rule.get("type")
    if isinstance(kind, str):
        return kind
    return next((kind for first, second, kind in _SHAPES if first in rule and second in rule), "")


def _replaced(rule: dict[str, Any]) -> float:
    """What an expression matches may be one character, or none."""
    return max(1.0, _size(rule.get("content")) / max(1, _size(_pattern(rule))))


def _pattern(rule: dict[str, Any]) -> Any:
    """The text that is replaced; None for an expression."""
    pattern = rule.get("pattern")
    return pattern.get("String") if isinstance(pattern, dict) else pattern


def _longest_form(charsmap: Any) -> int:
    """In bytes."""
    return max(map(len, _forms(charsmap)))


def _forms(charsmap: Any) -> list[bytes]:
    """The texts that SentencePiece's table has for characters: behind a trie, each with a zero."""
    try:
        table = base64.b64decode(charsmap, validate=False) if isinstance(charsmap, str) else bytes(charsmap or b"")
    except (binascii.Error, ValueError, TypeError):
        return [b""]  # which the library can't read either
    return table[4 + int.from_bytes(table[:4], "little") :].split(b"\0")


def _around(rule: dict[str, Any]) -> int:
    """Ids that a template writes beside the text, long texts of tokens counted as several."""
    tokens = rule.get("special_tokens")
    weights = {name: _weight(token) for name, token in tokens.items()} if isinstance(tokens, dict) else {}
    return max(
        sum(weights.get(str(piece["SpecialToken"].get("id")), 1) for piece in _pieces(rule.get(kind), "SpecialToken"))
        for kind in ("single", "pair")
    )


def _weight(token: Any) -> int:
    ids, texts = (token.get(key) if isinstance(token, dict) else None for key in ("ids", "tokens"))
    num_bytes = sum(map(_size, texts)) if isinstance(texts, list) else 0
    return max(1, len(ids) if isinstance(ids, list) else 0, num_bytes // _TOKEN_BYTES)


def _copies(template: Any) -> int:
    """How often a template writes the text that it has most often."""
    names = [str(piece["Sequence"].get("id")) for piece in _pieces(template, "Sequence")]
    return max(Counter(names).values(), default=0)


def _pieces(template: Any, kind: str) -> list[dict[str, Any]]:
    pieces = template if isinstance(template, list) else []
    return [piece for piece in pieces if isinstance(piece, dict) and isinstance(piece.get(kind), dict)]


def _size(text: Any) -> int:
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0
