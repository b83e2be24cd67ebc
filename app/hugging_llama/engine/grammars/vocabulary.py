"""A tokenizer's vocabulary as llguidance wants it."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from llguidance import LLTokenizer, hf

from hugging_llama.engine.token_bytes import TokenBytes, byte_alphabet, is_byte_level

_MOST_READ_ADDED = 8_000
"""llguidance looks each added token up among all the others while no other thread gets its turn: 8,000 take a sixth
of a second, 69,000 twenty seconds."""
_MOST_TOKENS = 2**19
"""It takes 5 us for each; models that write have 262,144 at most."""
_MOST_BYTES = 2**23
"""It panics where a vocabulary makes too large a tree, after seconds; 262,144 real tokens have some 2 MB."""
_MOST_STRANGE = 8_000
"""Tokens of a byte-level vocabulary that stand for no bytes, which takes it 27 us each; no real one has any."""


def grammar_vocabulary(tokenizer: Any, size: int, eos_token_ids: list[int]) -> Any:
    """An LLTokenizer of `size` tokens. Raises ValueError for a vocabulary that takes too long, and what llguidance
    raises for tokenizers that it does not know.

    One with thousands of added tokens is read without these, and they are added as bytes. The masks are the same; a
    text that is forced never becomes an added token then.
    """
    backend = tokenizer.backend_tokenizer
    vocab = backend.get_vocab(with_added_tokens=False)
    if max(size, len(vocab)) > _MOST_TOKENS or sum(map(len, vocab)) > _MOST_BYTES or _is_strange(tokenizer, vocab):
        raise ValueError("a vocabulary of another kind")
    if len(tokenizer.added_tokens_decoder) > _MOST_READ_ADDED:
        values = json.loads(backend.to_str()) | {"added_tokens": [], "padding": None, "truncation": None}
        plain = LLTokenizer(json.dumps(values), slices=[])
        return LLTokenizer(_WithAdded(tokenizer, plain, size, eos_token_ids[0]), eos_token=eos_token_ids)  # type: ignore[arg-type]
    if backend.padding is not None or backend.truncation is not None:
        return hf.from_tokenizer(tokenizer, n_vocab=size, eos_token=eos_token_ids)
    # as `from_tokenizer`, without its copy of a tokenizer that pads and truncates nothing anyway
    return LLTokenizer(backend.to_str(), n_vocab=size, eos_token=eos_token_ids)


def _is_strange(tokenizer: Any, vocab: Collection[str]) -> bool:
    alphabet = byte_alphabet() if is_byte_level(tokenizer) else None
    return alphabet is not None and sum(1 for t in vocab if not alphabet.keys() >= set(t)) > _MOST_STRANGE


class _WithAdded:
    """A tokenizer as llguidance asks for one: `plain` knows no added tokens and reads texts."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Any, plain: Any, size: int, eos_token_id: int) -> None:
        token_bytes = TokenBytes(tokenizer)
        self.tokens: Sequence[bytes] = [token_bytes(token_id) for token_id in range(size)]
        self.special_token_ids = sorted(
            token_id for token_id, token in tokenizer.added_tokens_decoder.items() if _is_special(token)
        )
        self.eos_token_id = eos_token_id
        self._plain = plain

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self._plain.tokenize_str(text)
        return ids


def _is_special(token: Any) -> bool:
    """As llguidance has it."""
    return bool(token.special or (token.content.startswith("<") and token.content.endswith(">")))
