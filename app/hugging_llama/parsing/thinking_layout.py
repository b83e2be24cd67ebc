"""The line breaks that a family puts around the end of its reasoning, told from its chat template."""

import re
from dataclasses import dataclass

from hugging_llama.parsing.thinking_tags import ThinkingTags

_JOINT = re.compile(r"""['"]\s*[+~]\s*['"]""")
_BREAKS = r"(?:\\n|\n)*"
# templates of callers are read by these, too: no pattern may look at a place more than a few times


@dataclass(frozen=True, slots=True)
class ThinkingLayout:
    """Line breaks `before` and `after` the closing tag, and between the tags where nothing is thought (`empty`)."""

    before: str = ""
    after: str = ""
    empty: str = ""


def thinking_layout(template: str, tags: ThinkingTags) -> ThinkingLayout:
    """As the template writes reasoning of earlier turns; one that shows none gets what is usual for such tags."""
    text = _JOINT.sub("", template)
    before, after = _around_end(text, tags.close) or _usual(tags.close)
    empty = re.search(rf"{re.escape(tags.open.rstrip())}({_BREAKS}){re.escape(tags.close)}", text)
    return ThinkingLayout(before, after, _breaks(empty[1]) if empty else before)


def _around_end(text: str, close: str) -> tuple[str, str] | None:
    """The most that stands around it anywhere, as a template also looks for the bare tag; None if it writes none.

    Reasoning is a variable: what comes right before the tag is the end of a string's beginning, or of an expression.
    """
    found = [
        (_breaks(_rendered(match["edge"], match["before"])), _breaks(_rendered(match["next"], match["after"])))
        for match in re.finditer(
            rf"(?P<edge>(?:==|!=|[+~,(])?\s{{0,9}}['\"]|-\}}\}}|\}}\}}|%\}})(?P<before>{_BREAKS}){re.escape(close)}(?P<after>{_BREAKS})"
            r"(?P<next>\s*\{[%{]-|['\"]\s*(?:not\s+)?in\b|)",
            text,
        )
        if not _is_mentioned(match, close)
    ]
    return max(found, key=lambda pair: (len(pair[0]), len(pair[1])), default=None)


def _is_mentioned(match: re.Match[str], close: str) -> bool:
    """Whether the template asks for the tag, as in `split('</think>')`, and does not write it."""
    return match["edge"][0] in "(,=!" or match["next"].endswith("in")


def _rendered(edge: str, breaks: str) -> str:
    """Without real line breaks that Jinja takes away, next to a block or a minus sign."""
    return breaks.replace("\n", "") if edge.endswith(("-}}", "%}")) or "{" in edge else breaks


def _breaks(text: str) -> str:
    return text.replace("\\n", "\n")


def _usual(close: str) -> tuple[str, str]:
    if close.startswith("</"):
        return "\n", "\n\n"
    return ("\n\n", "\n\n") if " " in close else ("", "")
