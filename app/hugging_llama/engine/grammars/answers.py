"""The grammar of a whole answer: tool calls, an answer in a format, or either of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from llguidance import LLMatcher

from hugging_llama.engine.grammars.calls import calls_rule
from hugging_llama.engine.grammars.formats import grammar_of, json_schema_of
from hugging_llama.engine.grammars.lark import Lark, one_of
from hugging_llama.errors import GrammarError, InvalidRequestError
from hugging_llama.neutral.formats import OutputFormat
from hugging_llama.neutral.messages import Tool
from hugging_llama.neutral.requests import ToolChoice
from hugging_llama.parsing.tool_formats import ToolFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What a model is told of its tools: how it writes calls, by which template, and the ids of its marks."""

    format: ToolFormat
    template: str
    tools: tuple[Tool, ...]
    choice: ToolChoice
    special_ids: Mapping[str, int]


def answer_grammar(format: OutputFormat | None, calls: CallContext | None) -> str | None:
    """None where everything may be said.

    With tools and a format an answer is a call or what the format says. Raises GrammarError, InvalidRequestError.
    """
    if calls is None or calls.choice.mode == "none":
        return grammar_of(format) if format else None
    if calls.choice.mode == "auto" and format is None:
        return None
    lark = Lark(calls.special_ids)
    tools = _chosen(calls)
    rule = calls_rule(lark, calls.format, tools, None if calls.choice.parallel else 1, calls.template)
    if calls.choice.mode == "auto":
        schema = json_schema_of(format)
        if schema is None:
            raise GrammarError("together with tools the format can be JSON or a JSON Schema")
        rule = one_of([rule, lark.json(schema)])
    return LLMatcher.grammar_from_lark(lark.grammar(rule))


def _chosen(calls: CallContext) -> tuple[Tool, ...]:
    name = calls.choice.name
    if name is None:
        return calls.tools
    found = tuple(tool for tool in calls.tools if tool.name == name)
    if not found:
        raise InvalidRequestError(f"tool_choice names {name[:80]!r}, which is none of the tools", param="tool_choice")
    return found
