"""The templates that chats of one model are rendered with: its own, and those that requests and named models bring."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from hugging_llama.engine.chat_format import ChatFormat, chat_format, ids_within, marker_ids
from hugging_llama.engine.control_tokens import ControlTokens
from hugging_llama.engine.response_template import ResponseTemplate, response_template

_MAX_STYLES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatStyle:
    """`given` is the text of a template in place of the model's own, None for that.

    `adds_bos`: what the tokenizer puts in front of a text goes in front of the rendered one, too: Ollama's templates
    leave it to the tokenizer. `end_ids` end a turn beside the ends of the model, `shown_ids` are tags of reasoning
    and calls. `response`: how the tokenizer's authors have answers read, of its own template alone.
    """

    format: ChatFormat
    control_tokens: ControlTokens
    given: str | None = None
    adds_bos: bool = False
    end_ids: frozenset[int] = frozenset()
    shown_ids: frozenset[int] = frozenset()
    response: ResponseTemplate | None = None


class ChatStyles:
    """The styles of one tokenizer by the text of their template; the latest used are kept. Not thread-safe."""

    def __init__(self, tokenizer: Any, format: ChatFormat) -> None:
        self._tokenizer = tokenizer
        response = response_template(tokenizer)
        self._own = ChatStyle(
            format=format,
            control_tokens=ControlTokens(tokenizer, format.template),
            shown_ids=ids_within(tokenizer, [response.delimiters]) if response else frozenset(),
            response=response,
        )
        self._others: OrderedDict[str, ChatStyle] = OrderedDict()

    def __len__(self) -> int:
        return len(self._others)

    def of(self, template: str) -> ChatStyle:
        """The style of a Jinja template, "" for the model's own."""
        if template in ("", self._own.format.template):
            return self._own
        style = self._others.get(template) or self._read(template)
        self._others[template] = style
        self._others.move_to_end(template)
        if len(self._others) > _MAX_STYLES:
            self._others.popitem(last=False)
        return style

    def _read(self, template: str) -> ChatStyle:
        format = chat_format(self._tokenizer, template)
        return ChatStyle(
            format=format,
            control_tokens=ControlTokens(self._tokenizer, template),
            given=template,
            adds_bos="bos_token" not in template,
            end_ids=format.turn_end_ids,
            shown_ids=marker_ids(self._tokenizer, format),
        )
