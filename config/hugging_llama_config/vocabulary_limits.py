"""How many tokens a model's tokenizer may have, and with which ids. Its files come from strangers."""

from collections.abc import Collection
from typing import Any

MOST_IDS = 2**22
"""Libraries keep tables of all ids up to the greatest one; real vocabularies have some 260,000."""
MOST_ADDED = 70_000
"""Each one is looked up among all the others at a load; models of speech add a token for each of 65,536 sounds."""
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
    ids = [*(vocab.values() if isinstance(vocab, dict) else ()), *_ids(added)]
    greatest = max((id for id in ids if isinstance(id, int)), default=0)
    if isinstance(vocab, list):
        greatest = max(greatest, len(vocab) - 1)
    return f"has a token with the id {greatest}; ids must be below {MOST_IDS}" if greatest >= MOST_IDS else ""


def _ids(added: Any) -> list[Any]:
    if isinstance(added, dict):
        return [int(id) for id in added]
    return [token.get("id") for token in added if isinstance(token, dict)] if isinstance(added, list) else []
