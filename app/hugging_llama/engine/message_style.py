"""What one chat template wants of messages that others do not."""

import re
from dataclasses import dataclass

from hugging_llama.parsing.thinking_tags import ThinkingTags

_SHORT_CALL_IDS = re.compile(r"\|\s*length\s*!=\s*9\b")
_NO_CONTENT = re.compile(r"content['\"]?\]?\s+is\s+(?:not\s+)?none\b")
_OFF_SWITCH = re.compile(r"['\"](/no_?think)['\"]\s+in\b")
_OWN_TOOLS = re.compile(r"\b\w+\[['\"]tools['\"]\]|['\"]tools['\"]\s+in\s+\w+|\bmessage\.tools\b")
_TOOLS = re.compile(r"\btools\b")
_THOUGHT_KEYS = ("thinking", "reasoning")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStyle:
    """`short_call_ids`: ids of tool calls have 9 letters or digits. `null_content`: a message that is tool calls alone
    has no content, rather than an empty one.

    `thought_keys`: the keys under which earlier reasoning is looked for. `thought_end`: what stands behind reasoning in
    the text of earlier answers, where it is dropped; "" for a model that does not think. `off_switch`: the word in the
    system text that turns thinking off, "" for none. `tools_in_system`: tools are a text of the system message.
    """

    short_call_ids: bool = False
    null_content: bool = False
    thought_keys: tuple[str, ...] = ("reasoning_content",)
    thought_end: str = ""
    off_switch: str = ""
    tools_in_system: bool = False


PLAIN_STYLE = MessageStyle()


def message_style(template: str, thinking: ThinkingTags | None) -> MessageStyle:
    """Reads a chat template."""
    switch = _OFF_SWITCH.search(template)
    own_tools = _OWN_TOOLS.search(template) is not None
    return MessageStyle(
        short_call_ids=_SHORT_CALL_IDS.search(template) is not None,
        null_content=_NO_CONTENT.search(template) is not None,
        thought_keys=("reasoning_content", *(key for key in _THOUGHT_KEYS if _reads(template, key))),
        thought_end=thinking.close if thinking else "",
        off_switch=switch[1] if switch else "",
        tools_in_system=own_tools and not _TOOLS.search(_OWN_TOOLS.sub("", template)),
    )


def _reads(template: str, key: str) -> bool:
    """Whether a template reads this key of a message: `m.key`, `m["key"]`, `m.get("key")`, `"key" in m`."""
    return (
        re.search(rf"\.{key}\b|\[['\"]{key}['\"]\]|get\(['\"]{key}['\"]|['\"]{key}['\"]\s+in\b", template) is not None
    )
