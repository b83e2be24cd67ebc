"""How many tokens a model's tokenizer may have, how long, and with which ids. Its files come from strangers."""

from collections.abc import Collection, Iterable
from typing import Any

MOST_IDS = 2**20
"""Libraries keep tables of all ids up to the greatest one; most real vocabularies have some 260,000, one 900,000."""
MOST_ADDED = 70_000
"""A load takes some five seconds for as many; models of speech add a token for each of 65,536 sounds."""
LONGEST_TOKEN = 4096
"""In characters: real ones have at most some hundred, a row of spaces."""
MOST_ADDED_BYTES = 2 * 2**20
"""Of the texts of all added tokens: each byte becomes a state of the automaton that finds them, at 70 bytes a state;
65,536 sounds have some 1.5 MB."""
MOST_LISTED_BYTES = 12 * 2**20
"""Of the texts of a vocabulary with weights (Unigram): the library's trie takes up to 350 bytes for each byte. The
largest real one, of a million tokens, has some 10 MB."""
_LONGEST_ID = 20


def vocabulary_problem(vocab: Any, added: Any = None) -> str:
    """Why these tokens must not be used, as the end of a sentence about their file; "" if they may be.

    `vocab` has ids by token, or is the list of tokens; `added` are further tokens, objects with an `id`, or by their
    ids as text.
    """
    if isinstance(added, Collection) and len(added) > MOST_ADDED:
        return f"adds {len(added)} tokens to its vocabulary; {MOST_ADDED} are the most"
    if isinstance(added, dict) and not all(id.isascii() and id.isdigit() and len(id) < _LONGEST_ID for id in added):
        return "has a token whose id is no number"
    if problem := long_token_problem(_texts(vocab)) or added_texts_problem(token_texts(added)):
        return problem
    if isinstance(vocab, list) and (num_bytes := _num_bytes(_texts(vocab))) > MOST_LISTED_BYTES:
        return f"has {num_bytes} bytes of tokens; {MOST_LISTED_BYTES} are the most"
    ids = [*(vocab.values() if isinstance(vocab, dict) else ()), *_ids(added)]
    greatest = max((id for id in ids if isinstance(id, int)), default=0)
    if isinstance(vocab, list):
        greatest = max(greatest, len(vocab) - 1)
    return f"has a token with the id {greatest}; ids must be below {MOST_IDS}" if greatest >= MOST_IDS else ""


def added_texts_problem(texts: Collection[str]) -> str:
    """The same for the texts of added tokens alone. One that comes twice is one token."""
    if problem := long_token_problem(texts):
        return problem
    num_bytes = _num_bytes(set(texts))
    return f"adds {num_bytes} bytes of tokens; {MOST_ADDED_BYTES} are the most" if num_bytes > MOST_ADDED_BYTES else ""


def long_token_problem(texts: Iterable[str]) -> str:
    """The same for the length of each token."""
    longest = max(map(len, texts), default=0)
    return f"has a token of {longest} characters; {LONGEST_TOKEN} are the most" if longest > LONGEST_TOKEN else ""


def token_texts(value: Any) -> list[str]:
    """The texts of tokens as configurations name them: one, a list or by names, each a text or an object with its
    `content`."""
    tokens = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
    named = (token.get("content") if isinstance(token, dict) else token for token in tokens)
    return [text for text in named if isinstance(text, str)]


def _num_bytes(texts: Iterable[str]) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _texts(vocab: Any) -> Iterable[str]:
    """The list has texts, or pairs of a text and its weight."""
    if isinstance(vocab, dict):
        return vocab
    entries = vocab if isinstance(vocab, list) else []
    firsts = (entry[0] if isinstance(entry, list) and entry else entry for entry in entries)
    return (text for text in firsts if isinstance(text, str))


def _ids(added: Any) -> list[Any]:
    if isinstance(added, dict):
        return [int(id) for id in added]
    return [token.get("id") for token in added if isinstance(token, dict)] if isinstance(added, list) else []
