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
    """What a model is told of its tools: how it writes calls, and by which template."""

    format: ToolFormat
    template: str
    tools: tuple[Tool, ...]
    choice: ToolChoice


def answer_grammar(
    format: OutputFormat | None,
    calls: CallContext | None,
    *,
    special_ids: Mapping[str, int],
    has_channels: bool = False,
) -> str | None:
    """None where everything may be said. `special_ids` are a GrammarCompiler's; `has_channels` as in ChatFormat.

    With tools and a format an answer is a call or what the format says. Raises GrammarError, InvalidRequestError.
    """
    if calls is not None and (calls.choice.mode == "none" or (calls.choice.mode == "auto" and format is None)):
        calls = None
    if calls is None and (format is None or not has_channels):
        return grammar_of(format) if format else None
    lark = Lark(special_ids)
    parts = []
    if calls is not None:
        most = None if calls.choice.parallel else 1
        parts.append(calls_rule(lark, calls.format, _chosen(calls), most, calls.template))
    if format is not None and (calls is None or calls.choice.mode == "auto"):
        schema = json_schema_of(format)
        if schema is None:
            raise GrammarError("together with tools or channels the format can be JSON or a JSON Schema")
        parts.append(_final(lark, lark.json(schema)) if has_channels else lark.json(schema))
    return LLMatcher.grammar_from_lark(lark.grammar(_after_analysis(lark, parts) if has_channels else one_of(parts)))


def _after_analysis(lark: Lark, parts: list[str]) -> str:
    """The parts, with reasoning in front or without."""
    head = f'{lark.mark("<|channel|>")} "analysis" {lark.mark("<|message|>")}'
    analysis = f"{head} {lark.text_before_mark('<|end|>')}"
    thought = lark.rule(f'{analysis} {lark.mark("<|start|>")} "assistant"')
    return f"{thought}? {one_of(parts)}"


def _final(lark: Lark, answer: str) -> str:
    return lark.rule(f'{lark.mark("<|channel|>")} "final" {lark.mark("<|message|>")} {answer}')


def _chosen(calls: CallContext) -> tuple[Tool, ...]:
    name = calls.choice.name
    if name is None:
        return calls.tools
    found = tuple(tool for tool in calls.tools if tool.name == name)
    if not found:
        raise InvalidRequestError(f"tool_choice names {name[:80]!r}, which is none of the tools", param="tool_choice")
    return found
