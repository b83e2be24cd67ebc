"""What stands around the reasoning of a family of models, told from its chat template."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ThinkingTags:
    """What stands before and after the reasoning of a model, and around the answer that follows, "" for nothing."""

    open: str
    close: str
    answer_open: str = ""
    answer_close: str = ""


_TAGS = (
    ThinkingTags("<|channel>thought\n", "<channel|>"),  # Gemma 4
    ThinkingTags("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ThinkingTags("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ThinkingTags("<think>", "</think>"),
    ThinkingTags("[THINK]", "[/THINK]"),  # Magistral
    ThinkingTags("<seed:think>", "</seed:think>"),
    ThinkingTags("<thought>", "</thought>"),  # EXAONE Deep
    ThinkingTags("<thinking>", "</thinking>"),
    ThinkingTags("<reasoning>", "</reasoning>"),
    ThinkingTags("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),  # Apriel
    ThinkingTags("Here is my thought process:", "Here is my response:"),  # Granite 3.2
)
_COMMON = ThinkingTags("<think>", "</think>")

_ANSWER_TAGS = (
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|START_TEXT|>", "<|END_TEXT|>"),
    ("<response>", "</response>"),  # Granite 3.3, ERNIE
    ("<answer>", "</answer>"),  # Hunyuan
)
_APRIEL_END = "[END FINAL RESPONSE]"

HARMONY_TAGS = ThinkingTags("<|channel|>analysis<|message|>", "<|end|>")
"""As gpt-oss writes reasoning; `parsing.harmony` reads its answers as a whole."""


def thinking_tags(template: str) -> ThinkingTags | None:
    """The tags that a chat template shows; None if its model does not think, or thinks in channels."""
    found = next((tags for tags in _TAGS if tags.open in template or tags.close in template), None)
    if found is None:
        # Templates that only take the switch leave the tags to the model, which was trained on the common ones.
        found = _COMMON if "enable_thinking" in template and not has_channels(template) else None
    if found is None:
        return None
    if found.close == "[BEGIN FINAL RESPONSE]":
        return ThinkingTags(found.open, found.close, answer_close=_APRIEL_END)
    around = next((pair for pair in _ANSWER_TAGS if pair[0] in template and pair[1] in template), ("", ""))
    return ThinkingTags(found.open, found.close, *around)


def has_channels(template: str) -> bool:
    """Whether answers are messages with a channel each, as gpt-oss writes them."""
    return "<|channel|>" in template
