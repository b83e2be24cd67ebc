"""Texts and pairs to token ids, and token ids to the features of one batch, as sentence-transformers makes them."""

import sys
import threading
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard, cast

import jinja2
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hugging_llama.engine.text_limit import TextLimit
from hugging_llama.errors import ContextLengthError, InvalidRequestError

_IDS = "input_ids"
_MASK = "attention_mask"
_SPECIAL = "special_tokens_mask"
_UNCUTTABLE = "input exceeds maximum context length and cannot be truncated further"
_TRUNCATION_ERROR = "Truncation error"
"""How a message of tokenizers begins, whose class is Exception."""
_PORTION = 2**20
"""Characters."""
_CUT = {"truncation": "longest_first"}

Written = str | tuple[str, str]
"""A text, or two that the model reads together."""
Input = Written | tuple[int, ...]
"""Or the token ids that the model gets in its place."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One tokenised input: equally long columns (`input_ids`, for some models `token_type_ids`) without padding.

    Arrays of C ints, since a request may hold millions of tokens and a Python int takes nine times as much.
    `num_truncated` tokens of the input did not fit.
    """

    columns: Mapping[str, "array[int]"]
    num_truncated: int = 0

    @property
    def length(self) -> int:
        """In tokens, with what the model puts around the text."""
        return len(self.columns[_IDS])

    @property
    def last_id(self) -> int:
        """The id of its last token."""
        return self.columns[_IDS][-1]


class PoolingTokenizer:
    """The tokenizer of a model that reads whole inputs. Thread-safe: requests take turns.

    `library` is the model's SentenceTransformer or CrossEncoder, None where there is only a tokenizer. If it was saved
    for chat messages, or with settings of its own for the tokenizer, it makes the ids itself, one input at a time; all
    others get them straight from their tokenizer. The default prompt of the model's makers stands before every text.

    `config` is that of transformers' model, whose embedding of tokens may have fewer rows than its tokenizer has ids.
    `pads_left`: the model reads the last place of each row, so padding stands in front, and positions are told.
    """

    def __init__(self, tokenizer: Any, library: Any, config: Any, *, pads_left: bool = False) -> None:
        self._library = library
        self._tokenizer = tokenizer
        self._vocabulary_size = min(len(tokenizer), getattr(config.get_text_config(), "vocab_size", 0) or sys.maxsize)
        self._prompt = _default_prompt(library)
        self._pads_left = pads_left
        self._limit = TextLimit(tokenizer)
        self._lock = threading.Lock()
        self._constants: dict[str, Any] = _constants(library, self._prompt) if library is not None else {}
        self._has_library_ids = self._constants.get("modality") == "message" or _has_settings(library)
        self._padding = {
            _IDS: tokenizer.pad_token_id or 0,
            "token_type_ids": tokenizer.pad_token_type_id,
        }
        (empty,) = self._tokenized([""], sys.maxsize, truncate=True)
        self._other_columns = tuple(name for name in empty.columns if name != _IDS)

    def rows(self, inputs: Sequence[Input], *, limit: int, truncate: bool) -> list[TokenRow]:
        """Tokenises, and takes ids as they are. Of a text that is longer than `limit` tokens the end goes, but not the
        special tokens there; of a pair the end of the longer text.

        Raises ContextLengthError for such an input if it must not be truncated, TextTooLongError for one that is longer
        than what is tokenised at once, InvalidRequestError for one that can't be brought below the limit, has no
        tokens, is no valid Unicode or holds ids that the model lacks.
        """
        written = cast(list[Written], [value for value in inputs if not _is_ids(value)])
        for value in written:
            self._limit.check((self._prompt or "", value))
        portions = _portions(written, len(self._prompt or ""))
        rows = iter([row for portion in portions for row in self._tokenized(portion, limit, truncate)])
        found = [self._given(value, limit, truncate) if _is_ids(value) else next(rows) for value in inputs]
        if not all(row.length for row in found):
            raise InvalidRequestError("the input has an empty text, of which this model makes no token", param="input")
        if max(max(row.columns[_IDS]) for row in found) >= self._vocabulary_size:
            raise InvalidRequestError("the input has tokens that this model does not have", param="input")
        return found

    def features(
        self, rows: Sequence[TokenRow], device: torch.device, *, pad_token_id: int | None = None
    ) -> dict[str, Any]:
        """One batch: (rows, longest row) tensors of int64 on `device`, and the attention mask.

        Padding is on the right, whatever side the tokenizer names: so every token has the position that it has alone,
        also where positions are absolute. `pad_token_id` is what it consists of, None for the tokenizer's own.
        """
        found: dict[str, Any] = dict(self._constants)
        padding = self._padding if pad_token_id is None else {**self._padding, _IDS: pad_token_id}
        for name in rows[0].columns:
            tensors = [torch.frombuffer(row.columns[name], dtype=torch.int32).long() for row in rows]
            padded = pad_sequence(
                tensors,
                batch_first=True,
                padding_value=padding.get(name, 0),
                padding_side="left" if self._pads_left else "right",
            )
            found[name] = padded.to(device)
        lengths = torch.tensor([row.length for row in rows])
        places = torch.arange(int(lengths.max()))
        if self._pads_left:
            places = places.flip(0)
        mask = (places < lengths[:, None]).long()
        found[_MASK] = mask.to(device)
        if self._pads_left:
            found["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0).to(device)
        return found

    def ids(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Those that an embedding of `text` would compute, none cut off; or those of the text alone, with nothing
        around it. Raises InvalidRequestError, TextTooLongError."""
        self._limit.check(text)
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
        columns = {_IDS: ids} | {name: array("i", zeros) for name in self._other_columns}
        return TokenRow(columns, num_truncated=len(token_ids) - len(ids))

    def _check_ids(self, token_ids: Sequence[int], param: str) -> None:
        if token_ids and not 0 <= min(token_ids) <= max(token_ids) < self._vocabulary_size:
            raise InvalidRequestError(f"{param} holds ids that this model does not have", param=param)

    def _tokenized(self, inputs: Sequence[Written], limit: int, truncate: bool) -> list[TokenRow]:
        try:
            with self._lock:
                if self._has_library_ids:
                    return [self._library_row(value, limit, truncate) for value in inputs]
                return self._plain_rows(inputs, limit, truncate)
        except (TypeError, ValueError) as error:
            raise InvalidRequestError("the input is not valid Unicode text", param="input") from error
        except jinja2.TemplateError as error:
            raise InvalidRequestError("the model's template can't render this input", param="input") from error
        except Exception as error:
            if _TRUNCATION_ERROR in str(error):
                raise InvalidRequestError(_UNCUTTABLE, param="input") from error
            raise

    def _plain_rows(self, inputs: Sequence[Written], limit: int, truncate: bool) -> list[TokenRow]:
        """A tokenizer takes texts or pairs in one call, not both."""
        texts = [value for value in inputs if isinstance(value, str)]
        pairs = [value for value in inputs if not isinstance(value, str)]
        text_rows = iter(self._text_rows(texts, limit, truncate) if texts else ())
        pair_rows = iter(self._pair_rows(pairs, limit, truncate) if pairs else ())
        return [next(text_rows if isinstance(value, str) else pair_rows) for value in inputs]

    def _text_rows(self, texts: Sequence[str], limit: int, truncate: bool) -> list[TokenRow]:
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
            TokenRow(
                {name: array("i", self._cut(values[index], marks, limit)) for name, values in columns.items()},
                num_truncated=max(len(marks) - limit, 0),
            )
            for index, marks in enumerate(special)
        ]

    def _pair_rows(self, pairs: Sequence[tuple[str, str]], limit: int, truncate: bool) -> list[TokenRow]:
        """The tokenizer itself shortens pairs: it knows which of its tokens stand between the two."""
        if truncate and self._tokenizer.num_special_tokens_to_add(pair=True) > limit:
            raise InvalidRequestError(_UNCUTTABLE, param="input")
        rows = self._pairs_as_rows(pairs, truncation=False)
        if not truncate:
            _check_length(max(row.length for row in rows), limit)
        long = [place for place, row in enumerate(rows) if row.length > limit]
        if long:
            cut = self._pairs_as_rows([pairs[place] for place in long], **_CUT, max_length=limit)
            for place, row in zip(long, cut, strict=True):
                rows[place] = _shortened(rows[place], row)
        return rows

    def _pairs_as_rows(self, pairs: Sequence[tuple[str, str]], **options: Any) -> list[TokenRow]:
        columns = dict(
            self._tokenizer(
                [(self._prompt or "") + first for first, _ in pairs],
                [second for _, second in pairs],
                padding=False,
                return_attention_mask=False,
                verbose=False,
                **options,
            )
        )
        return [
            TokenRow({name: array("i", values[index]) for name, values in columns.items()})
            for index in range(len(pairs))
        ]

    def _cut(self, values: list[int], special: list[int], limit: int) -> list[int]:
        """At most `limit` values. `special` is 1 for tokens that stand around the text; these stay."""
        if len(values) <= limit:
            return values
        head = next((place for place, mark in enumerate(special) if not mark), len(special))
        tail = next((place for place, mark in enumerate(reversed(special)) if not mark), 0)
        if head + tail > limit:
            raise InvalidRequestError(_UNCUTTABLE, param="input")
        kept = limit - tail if self._tokenizer.truncation_side == "right" else head
        return values[:kept] + values[len(values) - (limit - kept) :]

    def _library_row(self, value: Input, limit: int, truncate: bool) -> TokenRow:
        row = self._library_columns(value, truncation=False)
        if row.length <= limit:
            return row
        if not truncate:
            _check_length(row.length, limit)
        own = self._library[0].processing_kwargs.get("text", {}).get("truncation")
        cut = self._library_columns(value, max_length=limit, **({"truncation": own} if own else _CUT))
        return _shortened(row, cut)

    def _library_columns(self, value: Input, **options: Any) -> TokenRow:
        features = _preprocess(self._library, value, self._prompt, **options)
        columns = {name: value for name, value in features.items() if isinstance(value, Tensor) and name != _MASK}
        return TokenRow({name: array("i", value[0].tolist()) for name, value in columns.items()})


def _portions(inputs: Sequence[Written], prompt_length: int) -> Iterator[list[Written]]:
    """Inputs that are tokenised together: until it is a row of integers, a token takes a hundred times as much."""
    portion: list[Written] = []
    size = 0
    for value in inputs:
        portion.append(value)
        size += prompt_length + (len(value) if isinstance(value, str) else sum(map(len, value)))
        if size >= _PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _has_settings(library: Any) -> bool:
    return library is not None and bool(getattr(library[0], "processing_kwargs", None))


def _constants(library: Any, prompt: str | None) -> dict[str, Any]:
    """What the library adds to every batch beside tensors: the modality, how much of a row is the prompt, and so on."""
    is_cross_encoder = library.model_type == "CrossEncoder"
    features = _preprocess(library, ("a", "b") if is_cross_encoder else "", prompt)
    return {name: value for name, value in features.items() if not isinstance(value, Tensor)}


def _preprocess(library: Any, value: Input, prompt: str | None, **options: Any) -> dict[str, Any]:
    features: dict[str, Any] = library.preprocess(
        [value], prompt=prompt, processing_kwargs={"text": {"padding": False, **options}}
    )
    return features


def _shortened(row: TokenRow, cut: TokenRow) -> TokenRow:
    """`cut`, which is what fits of `row`."""
    return replace(cut, num_truncated=row.length - cut.length)


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        raise ContextLengthError(length, limit)


def _default_prompt(library: Any) -> str | None:
    """What the model's makers want in front of every text, as the library's `encode` and `predict` do."""
    name = getattr(library, "default_prompt_name", None)
    return (getattr(library, "prompts", None) or {}).get(name) if name else None


def _is_ids(value: Input) -> TypeGuard[tuple[int, ...]]:
    return not isinstance(value, str) and not (value and isinstance(value[0], str))
