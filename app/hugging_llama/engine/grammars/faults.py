"""What llguidance has against a grammar, for those who wrote the schema in it."""

import re

from hugging_llama.engine.grammars.lark import tool_at

_AT = re.compile(r"at (\d{1,9})\(\d+\): (?:failed to compile JSON schema: )?")
_KEYWORDS = re.compile(r"Unimplemented keys: \[(.*?)\]")
_OWN_WORDS = (
    ("oneOf constraints are not supported", "oneOf is enforced only where its branches can't hold at once: use anyOf"),
    ("NoExtensionBias", "the schema refers to itself and comes to no end"),
)


def explained(fault: str, grammar: str) -> str:
    """One sentence. `grammar` is what was compiled: where a tool's schema is at fault it says which tool that is."""
    text = " ".join(fault.partition("<state>")[0].split())
    place = _AT.match(text)
    tool = tool_at(grammar, int(place[1])) if place else ""
    about = f"the tool {tool[:80]!r}" if tool else "this output format"
    if place and tool:
        text = text[place.end() :]
    if keywords := _KEYWORDS.search(text):
        text = f"it holds keywords that are not supported: {keywords[1]}"
    text = next((own for words, own in _OWN_WORDS if words in text), text)
    # behind the fault llguidance shows the grammar, which is none of the caller's
    shown = re.split(r" \d+ \| \w+: ", text)[0] if tool else text
    return f"{about} can't be enforced: {shown[:300]}"
