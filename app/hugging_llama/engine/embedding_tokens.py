"""Texts to token ids and token ids to the features of one batch, as sentence-transformers makes them."""

import sys
import threading
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hugging_llama.errors import ContextLengthError, InvalidRequestError

_IDS = "input_ids"
_MASK = "attention_mask"
_SPECIAL = "special_tokens_mask"

Input = str | Sequence[int]
"""A text, or the token ids that the model gets in its place."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One tokenised text: equally long columns (`input_ids`, for some models `token_type_ids`) without padding.

    Arrays of C ints, since a request may hold millions of tokens and a Python int takes nine times as much.
    """

    columns: Mapping[str, "array[int]"]

    @property
    def length(self) -> int:
        """In tokens, with what the model puts around the text."""
        return len(self.columns[_IDS])


class EmbeddingTokenizer:
    """The tokenizer of a SentenceTransformer. Thread-safe: requests take turns.

    A model that was saved for chat messages gets them from the library, one text at a time; all others get token ids
    straight from their tokenizer. The default prompt of the model's makers stands before every text.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._tokenizer = model.tokenizer
        self._prompt = _default_prompt(model)
        self._lock = threading.Lock()
        self._constants: dict[str, Any] = {
            name: value
            for name, value in self._preprocess("").items()
            if not isinstance(value, Tensor)  # the modality, and how much of a row is the prompt
        }
        self._is_chat = self._constants.get("modality") == "message"
        self._padding = {
            _IDS: self._tokenizer.pad_token_id or 0,
            "token_type_ids": self._tokenizer.pad_token_type_id,
        }
        (empty,) = self._tokenized([""], sys.maxsize, truncate=True)
        self._other_columns = tuple(name for name in empty.columns if name != _IDS)

    def rows(self, inputs: Sequence[Input], *, limit: int, truncate: bool) -> list[TokenRow]:
        """Tokenises, and takes ids as they are; what is longer than `limit` tokens loses its end, but not the special
        tokens that stand there around a text.

        Raises ContextLengthError for such an input if it must not be truncated, InvalidRequestError for one that can't
        be brought below the limit, has no tokens, is no valid Unicode or holds ids that the model lacks.
        """
        texts = [text for text in inputs if isinstance(text, str)]
        of_texts = iter(self._tokenized(texts, limit, truncate) if texts else ())
        found = [next(of_texts) if isinstance(i, str) else self._given(i, limit, truncate) for i in inputs]
        if not all(row.length for row in found):
            raise InvalidRequestError("the input has an empty text, of which this model makes no token", param="input")
        return found

    def features(self, rows: Sequence[TokenRow], device: torch.device) -> dict[str, Any]:
        """One batch: (rows, longest row) tensors of int64 on `device`, and the attention mask.

        Padding is always on the right, whatever side the tokenizer names: so every token has the position that it
        has alone, also where positions are absolute.
        """
        found: dict[str, Any] = dict(self._constants)
        for name in rows[0].columns:
            tensors = [torch.frombuffer(row.columns[name], dtype=torch.int32).long() for row in rows]
            padded = pad_sequence(tensors, batch_first=True, padding_value=self._padding.get(name, 0))
            found[name] = padded.to(device)
        lengths = torch.tensor([row.length for row in rows])
        found[_MASK] = (torch.arange(int(lengths.max())) < lengths[:, None]).long().to(device)
        return found

    def ids(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Those that an embedding of `text` would compute, none cut off; or those of the text alone, with nothing
        around it. Raises InvalidRequestError."""
        if add_special_tokens:
            return list(self._tokenized([text], sys.maxsize, truncate=True)[0].columns[_IDS])
        try:
            with self._lock:
                return list(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))
        except (TypeError, ValueError) as error:
            raise InvalidRequestError("the text is not valid Unicode", param="content") from error

    def decode(self, token_ids: Sequence[int]) -> str:
        """What ids say, special tokens spelt out. Raises InvalidRequestError for those outside of the vocabulary."""
        self._check_ids(token_ids, "tokens")
        with self._lock:
            text: str = self._tokenizer.decode(
                list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            return text

    def _given(self, token_ids: Sequence[int], limit: int, truncate: bool) -> TokenRow:
        self._check_ids(token_ids, "input")
        if not truncate:
            _check_length(len(token_ids), limit)
        ids = array("i", token_ids[:limit])
        zeros = bytes(ids.itemsize * len(ids))
        return TokenRow({_IDS: ids} | {name: array("i", zeros) for name in self._other_columns})

    def _check_ids(self, token_ids: Sequence[int], param: str) -> None:
        if token_ids and not 0 <= min(token_ids) <= max(token_ids) < len(self._tokenizer):
            raise InvalidRequestError(f"{param} holds ids that this model does not have", param=param)

    def _tokenized(self, texts: Sequence[str], limit: int, truncate: bool) -> list[TokenRow]:
        make_rows = self._chat_rows if self._is_chat else self._plain_rows
        try:
            with self._lock:
                return make_rows(texts, limit, truncate)
        except (TypeError, ValueError) as error:
            raise InvalidRequestError("the input is not valid Unicode text", param="input") from error

    def _plain_rows(self, texts: Sequence[str], limit: int, truncate: bool) -> list[TokenRow]:
        columns = dict(
            self._tokenizer(
                [(self._prompt or "") + text for text in texts],
                truncation=False,
                padding=False,
                return_attention_mask=False,
                return_special_tokens_mask=True,
                verbose=False,
            )
        )
        special: list[list[int]] = columns.pop(_SPECIAL)
        if not truncate:
            _check_length(max(map(len, special), default=0), limit)
        return [
            TokenRow({name: array("i", _cut(values[index], marks, limit)) for name, values in columns.items()})
            for index, marks in enumerate(special)
        ]

    def _chat_rows(self, texts: Sequence[str], limit: int, truncate: bool) -> list[TokenRow]:
        return [self._chat_row(text, limit, truncate) for text in texts]

    def _chat_row(self, text: str, limit: int, truncate: bool) -> TokenRow:
        row = self._chat_columns(text, truncation=False)
        if row.length <= limit:
            return row
        if not truncate:
            _check_length(row.length, limit)
        return self._chat_columns(text, truncation=True, max_length=limit)

    def _chat_columns(self, text: str, **options: Any) -> TokenRow:
        features = self._preprocess(text, **options)
        columns = {name: value for name, value in features.items() if isinstance(value, Tensor) and name != _MASK}
        return TokenRow({name: array("i", value[0].tolist()) for name, value in columns.items()})

    def _preprocess(self, text: str, **options: Any) -> dict[str, Any]:
        features: dict[str, Any] = self._model.preprocess(
            [text], prompt=self._prompt, processing_kwargs={"text": {"padding": False, **options}}
        )
        return features


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        raise ContextLengthError(length, limit)


def _cut(values: list[int], special: list[int], limit: int) -> list[int]:
    """At most `limit` values. `special` is 1 for tokens that stand around the text; those at its end stay."""
    if len(values) <= limit:
        return values
    head = next((place for place, mark in enumerate(special) if not mark), len(special))
    tail = next((place for place, mark in enumerate(reversed(special)) if not mark), 0)
    if head + tail > limit:
        raise InvalidRequestError("input exceeds maximum context length and cannot be truncated further", param="input")
    return values[: limit - tail] + values[len(values) - tail :]


def _default_prompt(model: Any) -> str | None:
    """What the model's makers want in front of every text, as `SentenceTransformer.encode` does."""
    name = getattr(model, "default_prompt_name", None)
    return (getattr(model, "prompts", None) or {}).get(name) if name else None
