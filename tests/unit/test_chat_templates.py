"""What the chat templates of the Hub's families say of tools and thinking."""

import re
from pathlib import Path

import pytest

from hugging_llama.parsing import tool_formats
from hugging_llama.parsing.thinking_tags import has_channels, thinking_tags
from hugging_llama.parsing.tool_formats import tool_format
from tests.unit.chat_templates import TEMPLATES


@pytest.mark.parametrize("family", TEMPLATES)
def test_tools_and_thinking_of_a_family(family: str) -> None:
    template = TEMPLATES[family]
    found = tool_format(template.text)
    assert (found.name if found else "") == template.tool_format
    tags = thinking_tags(template.text)
    assert (tags and tags.open, tags and tags.close) == (template.open, template.close)
    assert (tags.answer_open if tags else "") == template.answer_open
    assert has_channels(template.text) is (family == "gpt-oss")


def test_a_switch_alone_means_the_common_tags() -> None:
    tags = thinking_tags("{% if enable_thinking %}")
    assert tags is not None
    assert (tags.open, tags.close) == ("<think>", "</think>")
    assert thinking_tags("{{ messages }}") is None


def test_a_template_without_tools_and_one_with_words_alone() -> None:
    assert tool_format("{{ messages }}<tool_call>") is None
    found = tool_format("{% if tools %}Answer with a JSON object.{% endif %}")
    assert found is not None
    assert found.name == "json"


def test_the_documents_table_is_complete() -> None:
    text = (Path(__file__).parents[2] / "docs" / "tool_formats.md").read_text()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    families = {cells[0].strip(): cells[2].strip() for cells in rows if len(cells) == 3}
    del families["`tool_format`"]
    formats = {format.name for format in vars(tool_formats).values() if isinstance(format, tool_formats.ToolFormat)}
    assert families.keys() == formats
    for name, listed in families.items():
        found = [family for family, template in TEMPLATES.items() if template.tool_format == name]
        assert listed == ", ".join(found)
    tags = {cells[0].strip().replace("\\", ""): cells[1].strip().split(", ") for cells in rows if len(cells) == 2}
    for family, template in TEMPLATES.items():
        if template.open and template.close:
            assert family in tags[f"`{template.open.strip()}` … `{template.close}`"]
