"""What a tokenizer's chat template tells about a family: its tags, its switches, the tokens that end a turn."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hugging_llama.parsing.tool_calls import ToolCallSyntax


@dataclass(frozen=True, slots=True)
class ThinkingTags:
    """What stands before and after the reasoning of a model."""

    open: str
    close: str


_THINKING_TAGS = (
    ThinkingTags("<think>", "</think>"),
    ThinkingTags("[THINK]", "[/THINK]"),
    ThinkingTags("<seed:think>", "</seed:think>"),
    ThinkingTags("<thinking>", "</thinking>"),
    ThinkingTags("<reasoning>", "</reasoning>"),
)

_TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<end_of_turn>",
    "<turn|>",
    "<|end|>",
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
)

_CHANNEL = "<|channel|>"
"""Templates with channels end each message of a turn by `<|end|>`: there that token does not end the turn."""

_SHORT_CALL_IDS = re.compile(r"\|\s*length\s*!=\s*9\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFormat:
    """How a model is talked to.

    `template` None: the model has no chat template. `thinking` None: it does not think. `tool_syntax` None: its
    template knows no tools. `turn_end_ids`: ids by which it ends a turn, beside the end ids of its configuration.
    `short_call_ids`: the template wants ids of tool calls to have 9 letters or digits.
    """

    template: str | None
    thinking: ThinkingTags | None
    tool_syntax: ToolCallSyntax | None
    turn_end_ids: frozenset[int]
    short_call_ids: bool


def chat_format(tokenizer: Any, template: str = "") -> ChatFormat:
    """Reads `template`, else `tokenizer.chat_template`; of several named ones there all are looked at."""
    text = template or own_template(tokenizer)
    if not text:
        return ChatFormat(
            template=None, thinking=None, tool_syntax=None, turn_end_ids=frozenset(), short_call_ids=False
        )
    return ChatFormat(
        template=text,
        thinking=_thinking_tags(text),
        tool_syntax=_tool_syntax(text),
        turn_end_ids=frozenset(
            _single_ids(
                tokenizer, (end for end in _TURN_ENDS if end in text and not (end == "<|end|>" and _CHANNEL in text))
            )
        ),
        short_call_ids=_SHORT_CALL_IDS.search(text) is not None,
    )


def own_template(tokenizer: Any) -> str:
    """The text of the tokenizer's chat templates, "" if it has none."""
    templates = getattr(tokenizer, "chat_template", None)
    return "\n".join(templates.values()) if isinstance(templates, dict) else templates or ""


def marker_ids(tokenizer: Any, format: ChatFormat) -> frozenset[int]:
    """Ids of the tags that the parsers of the answer must see even if the tokenizer calls them special."""
    texts: list[str] = []
    if format.thinking:
        texts += [format.thinking.open, format.thinking.close]
    if format.tool_syntax:
        texts += [text for text in (format.tool_syntax.open, format.tool_syntax.close) if text]
    return frozenset(_single_ids(tokenizer, texts))


def _single_ids(tokenizer: Any, texts: Iterable[str]) -> Iterable[int]:
    added: dict[str, int] = tokenizer.get_added_vocab()
    return [added[text] for text in texts if text in added]


def _thinking_tags(template: str) -> ThinkingTags | None:
    for tags in _THINKING_TAGS:
        if tags.close in template:
            return tags
    # Templates that only take the switch leave the tags to the model, which was trained on the common ones.
    return _THINKING_TAGS[0] if "enable_thinking" in template else None


def _tool_syntax(template: str) -> ToolCallSyntax | None:
    if "tools" not in template:
        return None
    if "<tool_call>" in template:
        return ToolCallSyntax()
    if "[TOOL_CALLS]" in template:
        return ToolCallSyntax(open="[TOOL_CALLS]", close="")
    return ToolCallSyntax(open="", close="")
