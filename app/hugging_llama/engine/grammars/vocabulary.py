"""A tokenizer's vocabulary as llguidance wants it."""

import json
from collections.abc import Sequence
from typing import Any

from llguidance import LLTokenizer, hf

from hugging_llama.engine.token_bytes import TokenBytes

_MOST_READ_ADDED = 8_000
"""llguidance looks each added token up among all the others while no other thread gets its turn: 8,000 take a sixth
of a second, 69,000 twenty seconds."""


def grammar_vocabulary(tokenizer: Any, size: int, eos_token_ids: list[int]) -> Any:
    """An LLTokenizer of `size` tokens. Raises what llguidance raises for tokenizers that it does not know.

    One with thousands of added tokens is read without these, and they are added as bytes. The masks are the same; a
    text that is forced never becomes an added token then.
    """
    backend = tokenizer.backend_tokenizer
    if len(tokenizer.added_tokens_decoder) > _MOST_READ_ADDED:
        values = json.loads(backend.to_str()) | {"added_tokens": [], "padding": None, "truncation": None}
        plain = LLTokenizer(json.dumps(values), slices=[])
        return LLTokenizer(_WithAdded(tokenizer, plain, size, eos_token_ids[0]), eos_token=eos_token_ids)  # type: ignore[arg-type]
    if backend.padding is not None or backend.truncation is not None:
        return hf.from_tokenizer(tokenizer, n_vocab=size, eos_token=eos_token_ids)
    # as `from_tokenizer`, without its copy of a tokenizer that pads and truncates nothing anyway
    return LLTokenizer(backend.to_str(), n_vocab=size, eos_token=eos_token_ids)


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
