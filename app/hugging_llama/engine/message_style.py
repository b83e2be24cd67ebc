"""What one chat template wants of messages that others do not."""

import re
from dataclasses import dataclass

from hugging_llama.parsing.thinking_tags import ThinkingTags, has_channels

_SHORT_CALL_IDS = re.compile(r"\|\s*length\s*!=\s*9\b")
_OFF_SWITCH = re.compile(r"['\"](/no_?think)['\"]\s+in\b")
_OWN_TOOLS = re.compile(r"\b\w+\[['\"]tools['\"]\]|['\"]tools['\"]\s+in\s+\w+|\bmessage\.tools\b")
_TOOLS = re.compile(r"\btools\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStyle:
    """`short_call_ids`: ids of tool calls have 9 letters or digits.

    `thought_end`: what stands behind reasoning in the text of earlier answers, where it is dropped; "" for a model that
    does not think. `thought_or_text`: beside a call there is reasoning or text, not both. `off_switch`: the word in the
    system text that turns thinking off, "" for none. `tools_in_system`: tools are a text of the system message.
    """

    short_call_ids: bool = False
    thought_end: str = ""
    thought_or_text: bool = False
    off_switch: str = ""
    tools_in_system: bool = False


PLAIN_STYLE = MessageStyle()


def message_style(template: str, thinking: ThinkingTags | None) -> MessageStyle:
    """Reads a chat template."""
    switch = _OFF_SWITCH.search(template)
    own_tools = _OWN_TOOLS.search(template) is not None
    return MessageStyle(
        short_call_ids=_SHORT_CALL_IDS.search(template) is not None,
        thought_end=thinking.close if thinking else "",
        thought_or_text=has_channels(template),
        off_switch=switch[1] if switch else "",
        tools_in_system=own_tools and not _TOOLS.search(_OWN_TOOLS.sub("", template)),
    )
