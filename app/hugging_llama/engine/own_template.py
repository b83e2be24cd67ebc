"""The chat template of a tokenizer: rendered and tokenised in two steps, by transformers itself.

`apply_chat_template` does both in one, and only so it keeps texts apart from the control tokens that stand in them. But
a limit of time is for the template, which may loop for ever, and one of size is for what comes out of it.
"""

from collections.abc import Callable
from typing import Any

from hugging_llama.engine.deadline import DeadlineExceeded, deadline
from hugging_llama.errors import InvalidRequestError

_LONGEST_READING_S = 120.0


class OwnTemplate:
    """Of one tokenizer. Not thread-safe, as the tokenizer is not."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._writer = _writer(tokenizer)

    def render(
        self, rows: Any, tools: Any, variables: dict[str, Any], *, sanitize: bool, continues: bool
    ) -> str | list[int]:
        """The text, for `encode`; ids from a tokenizer that knows no text in between. Raises what templates raise."""
        found: str | list[int] = self._writer.apply_chat_template(
            rows,
            tools=tools,
            add_generation_prompt=not continues,
            continue_final_message=continues,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=sanitize,
            **variables,
        )
        return found

    def encode(self, text: str | list[int], *, sanitize: bool) -> list[int]:
        """The ids of what `render` gave, with the same `sanitize`. Raises ValueError if that can't be had."""
        if not isinstance(text, str):
            return list(text)
        options = {"add_special_tokens": False, "sanitize_control_tokens": sanitize}
        return read_in_time(lambda: list(self._tokenizer(text, **options)["input_ids"]))


def read_in_time(read: Callable[[], list[int]]) -> list[int]:
    """The ids of a rendered text, which is read in pieces between the control tokens that stand in it.

    Raises InvalidRequestError where it has so many of them that this takes minutes.
    """
    try:
        with deadline(_LONGEST_READING_S):
            return read()
    except DeadlineExceeded:
        raise InvalidRequestError("this text takes too long to be tokenised; send less") from None


def _writer(tokenizer: Any) -> Any:
    """The tokenizer itself under another class, for which a text is its own ids."""
    kind: Any = type(tokenizer)
    writing = type(kind.__name__, (kind,), {"__call__": lambda self, text, **options: {"input_ids": text}})
    writer: Any = object.__new__(writing)
    writer.__dict__ = tokenizer.__dict__
    return writer
