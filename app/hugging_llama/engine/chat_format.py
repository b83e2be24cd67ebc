"""What a tokenizer's chat template tells about a family: its tags, its switches, the tokens that end a turn."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

from hugging_llama.engine.message_style import PLAIN_STYLE, MessageStyle, message_style
from hugging_llama.parsing.thinking_tags import ThinkingTags, has_channels, thinking_tags
from hugging_llama.parsing.tool_formats import HARMONY, ToolFormat, tool_format

_TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|eom|>",
    "<end_of_turn>",
    "<turn|>",
    "<|tool_response>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
    "<|observation|>",
    "<|assistant_end|>",
    "[e~[",
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
)

_MESSAGE_END = "<|end|>"
"""Templates with channels end each message of a turn by it: there it does not end the turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFormat:
    """How a model is talked to.

    `template` None: the model has no chat template. `thinking` None: it does not think. `tool_syntax` None: its
    template knows no tools. `turn_end_ids`: ids by which it ends a turn, beside the end ids of its configuration.
    `messages`: what the template wants of messages. `has_channels`: answers are messages with a channel each, as
    gpt-oss writes them.
    """

    template: str | None
    thinking: ThinkingTags | None
    tool_syntax: ToolFormat | None
    turn_end_ids: frozenset[int]
    messages: MessageStyle = PLAIN_STYLE
    has_channels: bool = False


def chat_format(tokenizer: Any, template: str = "") -> ChatFormat:
    """Reads `template`, else `tokenizer.chat_template`; of several named ones there all are looked at."""
    text = template or own_template(tokenizer)
    if not text:
        return ChatFormat(template=None, thinking=None, tool_syntax=None, turn_end_ids=frozenset())
    thinking, is_in_channels = thinking_tags(text), has_channels(text)
    ends = {end for end in _TURN_ENDS if end in text} - ({_MESSAGE_END} if is_in_channels else set())
    added: dict[str, int] = tokenizer.get_added_vocab()
    return ChatFormat(
        template=text,
        thinking=thinking,
        tool_syntax=tool_format(text),
        turn_end_ids=frozenset(added[end] for end in ends if end in added),
        messages=message_style(text, thinking),
        has_channels=is_in_channels,
    )


def own_template(tokenizer: Any) -> str:
    """The text of the tokenizer's chat templates, "" if it has none."""
    templates = getattr(tokenizer, "chat_template", None)
    return "\n".join(templates.values()) if isinstance(templates, dict) else templates or ""


def marker_ids(tokenizer: Any, format: ChatFormat) -> frozenset[int]:
    """Ids of the tags that the parsers of the answer must see even if the tokenizer calls them special."""
    texts = list(HARMONY.markers) if format.has_channels else []
    if format.thinking:
        texts += astuple(format.thinking)
    if format.tool_syntax:
        texts += format.tool_syntax.markers
    return ids_within(tokenizer, texts)


def ids_within(tokenizer: Any, texts: Iterable[str]) -> frozenset[int]:
    """Ids of the added tokens that these texts hold: a tag may be more than one, as Gemma's `<|channel>thought`."""
    added: dict[str, int] = tokenizer.get_added_vocab()
    return frozenset(i for token, i in added.items() if token.strip() and any(token in text for text in texts))
