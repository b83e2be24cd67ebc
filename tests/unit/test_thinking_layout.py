"""What stands around the end of reasoning, and a second end that is part of nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.parsing.dropped_tag import DroppedTag
from hugging_llama.parsing.thinking_layout import ThinkingLayout, thinking_layout
from hugging_llama.parsing.thinking_tags import ThinkingTags, thinking_tags
from tests.unit.pieces import pieces_of

SPLIT = "{%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
LINES = ThinkingLayout("\n", "\n\n", "\n")


@pytest.mark.parametrize(
    ("template", "layout"),
    [
        # strings with their line breaks, beside the bare tag that is looked for
        (
            SPLIT + "{{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content }}"
            "{{- '<think>\\n\\n</think>\\n\\n' }}",
            ThinkingLayout("\n", "\n\n", "\n\n"),
        ),
        # the same in pieces
        ("{{- '<think>' ~ '\\n' ~ reasoning ~ '\\n' ~ '</think>' ~ '\\n\\n' }}", LINES),
        # none at all
        (SPLIT + "{{ '\\n<think>' + reasoning.strip() + '</think>' }}", ThinkingLayout()),
        ("<think>{{ reasoning }}</think>{{ content }}", ThinkingLayout()),
        ("{{ '<|channel>thought\\n' + thinking + '\\n<channel|>' }}", ThinkingLayout("\n", "", "\n")),
        # line breaks of the template itself, as far as Jinja keeps them
        ("<think>\n{{ reasoning }}\n</think>\n\n{{ content }}", LINES),
        ("{% if reasoning %}\n<think>{{ reasoning -}}\n</think>\n{%- endif %}", ThinkingLayout()),
        # nothing is written: what is usual
        (SPLIT + "{{ '<think>\\n' }}", LINES),
        ("Think between <think> and </think>.", LINES),
        ("{{ '<think>\\n' }}{% if message.content != '</think>' %}", LINES),
        ("Here is my thought process: and Here is my response:", ThinkingLayout("\n\n", "\n\n", "\n\n")),
        ("<|START_THINKING|><|END_THINKING|>", ThinkingLayout()),
    ],
)  # fmt: skip
def test_the_layout_of_a_template(template: str, layout: ThinkingLayout) -> None:
    assert thinking_layout(template, thinking_tags(template) or ThinkingTags("", "")) == layout


@pytest.mark.parametrize("unit", [" ", "\n", "'", "' + ", "}}\n", "+ ", "<think>\n", "</think>\n", "'\\n"])
def test_no_template_takes_long(unit: str) -> None:
    """Squares of this length would take minutes."""
    template = unit * (200_000 // len(unit))
    assert thinking_layout(template, ThinkingTags("<think>", "</think>")).after in ("\n", "\n\n", "")


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("</think>\n\n sky", "sky"),
        ("It is Paris.\n</think>\n\nParis.", "It is Paris.\n\nParis."),
        ("a</think>b \n</think>", "ab"),
        ("a </thin> b </", "a </thin> b </"),
        ("plain \n", "plain \n"),
        ("", ""),
    ],
)
@given(data=st.data())
def test_a_tag_is_left_out(text: str, rest: str, data: st.DataObject) -> None:
    machine = DroppedTag("</think>")
    found = "".join(map(machine.push, data.draw(pieces_of(text)))) + machine.finish()
    assert found == rest
