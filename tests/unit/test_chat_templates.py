"""What the chat templates of the Hub's families say of tools and thinking."""

import pytest

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
