"""Grammars of tool calls, one for each way in which families of models write them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hugging_llama.engine.grammars import call_values
from hugging_llama.engine.grammars.lark import Lark, literal, one_of, repeated
from hugging_llama.engine.grammars.parameters import parameters_of, told_of
from hugging_llama.engine.grammars.values import Values
from hugging_llama.errors import GrammarError
from hugging_llama.neutral.messages import Tool
from hugging_llama.parsing.python_calls import FUNCTION_NAME
from hugging_llama.parsing.tool_formats import ToolFormat

CallsRule = Callable[[Lark, Sequence[Tool], int | None, str], str]
"""The rule of one or more calls of these tools, at most so many (None: any number), for a model of this template."""


def calls_rule(lark: Lark, format: ToolFormat, tools: Sequence[Tool], most: int | None, template: str) -> str:
    """Calls as `format` reads them, whose arguments are valid by their tools' schemas.

    Raises GrammarError for schemas that can't be enforced in this format.
    """
    names = _NAMES.get(format.name)
    for tool in tools:
        if names and not names.fullmatch(tool.name) and (format.name != "mistral" or "[ARGS]" in template):
            raise GrammarError(f"this model's way to write calls has no room for the tool name {tool.name[:80]!r}")
    return _RULES[format.name](lark, tools, most, template)


def _arguments(lark: Lark, tool: Tool, written: Callable[[Lark, Mapping[str, Any]], str]) -> str:
    """The rule of a tool's arguments as a format has them `written`."""
    lark.tool = tool.name
    with told_of(tool):
        rule = written(lark, parameters_of(tool))
    lark.tool = ""
    return rule


def _json_arguments(lark: Lark, tool: Tool) -> str:
    return _arguments(lark, tool, lambda lark, schema: lark.json(schema))


def _json_call(lark: Lark, tool: Tool, arguments: str = "arguments", name: str = "name", before: str = "") -> str:
    head = f'{{{before}"{name}": {json.dumps(tool.name, ensure_ascii=False)}, "{arguments}": '
    return lark.rule(f"{literal(head)} {_json_arguments(lark, tool)} {literal('}')}")


def _tagged(open: str, close: str) -> CallsRule:
    """Each call between marks of its own, on lines of their own."""

    def calls(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
        call = one_of(_json_call(lark, tool) for tool in tools)
        one = lark.rule(f'{lark.mark(open)} "\\n" {call} "\\n" {lark.mark(close)}')
        return lark.rule(repeated(one, "\n", most=most))

    return calls


def _listed(open: str, close: str, between: str = "", **keys: str) -> CallsRule:
    """One JSON list of all calls."""

    def calls(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
        call = lark.rule(one_of(_json_call(lark, tool, **keys) for tool in tools))
        end = f" {lark.mark(close)}" if close else ""
        start = f"{lark.mark(open)} {literal(between + '[')}"
        return lark.rule(f"{start} {repeated(call, ', ', most=most)} {literal(between.strip(' ') + ']')}{end}")

    return calls


def _bare(arguments: str, separator: str) -> CallsRule:
    """JSON objects and nothing around them."""

    def calls(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
        call = lark.rule(one_of(_json_call(lark, tool, arguments) for tool in tools))
        return lark.rule(repeated(call, separator, most=most))

    return calls


def _mistral(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
    mark = lark.mark("[TOOL_CALLS]")
    if "[ARGS]" not in template:
        return _listed("[TOOL_CALLS]", "", " ")(lark, tools, most, template)
    args = lark.mark("[ARGS]")
    call = [f"{mark} {literal(tool.name)} {args} {_json_arguments(lark, tool)}" for tool in tools]
    return lark.rule(repeated(lark.rule(one_of(call)), "", most=most))


def _fenced(begin: str, separator: str, end: str, around: tuple[str, str], between: str) -> CallsRule:
    """`function`, a mark, the name, and the arguments in a fence of their own; or the name, a mark, the arguments."""

    def calls(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
        is_fenced = "```json" in template
        found = []
        for tool in tools:
            arguments, mark = _json_arguments(lark, tool), lark.mark(separator)
            fenced = f'"function" {mark} {literal(tool.name + chr(10) + "```json" + chr(10))} {arguments} "\\n```"'
            plain = f"{literal(tool.name)} {mark} {arguments}"
            found.append(f"{lark.mark(begin)} {fenced if is_fenced else plain} {lark.mark(end)}")
        listed = repeated(lark.rule(one_of(found)), between if is_fenced else "", most=most)
        return lark.rule(f"{lark.mark(around[0])} {listed} {lark.mark(around[1])}")

    return calls


def _dsml(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
    call = [
        f"{literal(f'<｜DSML｜invoke name={chr(34)}{tool.name}{chr(34)}>{chr(10)}')} "
        f"{_arguments(lark, tool, call_values.dsml_elements)} {literal('</｜DSML｜invoke>')}"
        for tool in tools
    ]
    listed = repeated(lark.rule(one_of(call)), "\n", most=most)
    open, close = (lark.mark(f"<{slash}｜DSML｜function_calls>") for slash in ("", "/"))
    return lark.rule(f'{open} "\\n" {listed} "\\n" {close}')


def _apertus(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
    call = [
        f"{literal('{' + json.dumps(tool.name) + ': ')} {_json_arguments(lark, tool)} {literal('}')}" for tool in tools
    ]
    listed = repeated(lark.rule(one_of(call)), ", ", most=most)
    return lark.rule(
        f"{lark.mark('<|tools_prefix|>')} {literal('[')} {listed} {literal(']')} {lark.mark('<|tools_suffix|>')}"
    )


def _kimi(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
    begin, middle, end = (lark.mark(f"<|tool_call_{word}|>") for word in ("begin", "argument_begin", "end"))
    calls = [
        f"{begin} {literal(f'functions.{tool.name}:')} /[0-9]{{1,3}}/ {middle} {_json_arguments(lark, tool)} {end}"
        for tool in tools
    ]
    section_begin, section_end = (lark.mark(f"<|tool_calls_section_{word}|>") for word in ("begin", "end"))
    return lark.rule(f"{section_begin} {repeated(lark.rule(one_of(calls)), '', most=most)} {section_end}")


def _elements(open: str, close: str) -> CallsRule:
    def calls(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
        call = [
            f"{literal(f'<function={tool.name}>{chr(10)}')} {_arguments(lark, tool, call_values.elements)} "
            f"{literal('</function>')}"
            for tool in tools
        ]
        one = lark.rule(f'{lark.mark(open)} "\\n" {one_of(call)} "\\n" {lark.mark(close)}')
        return lark.rule(repeated(one, "\n", most=most))

    return calls


def _glm(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
    call = [f"{literal(tool.name + chr(10))} {_arguments(lark, tool, call_values.argument_pairs)}" for tool in tools]
    one = lark.rule(f"{lark.mark('<tool_call>')} {one_of(call)} {lark.mark('</tool_call>')}")
    return lark.rule(repeated(one, "\n", most=most))


def _minimax(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
    call = [
        f"{literal(f'<invoke name={chr(34)}{tool.name}{chr(34)}>{chr(10)}')} "
        f"{_arguments(lark, tool, call_values.named_elements)} {literal('</invoke>')}"
        for tool in tools
    ]
    listed = repeated(lark.rule(one_of(call)), "\n", most=most)
    return lark.rule(f'{lark.mark("<minimax:tool_call>")} "\\n" {listed} "\\n" {lark.mark("</minimax:tool_call>")}')


def _gemma(open: str, close: str, quote: str) -> CallsRule:
    def calls(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
        syntax = call_values.gemma_syntax(quote, close)
        call = []
        for tool in tools:
            members = _arguments(lark, tool, lambda lark, schema: Values(lark, syntax, schema).members(schema))
            call.append(f"{literal(f'call:{tool.name}' + '{')} {members} {literal('}')}")
        one = lark.rule(f"{lark.mark(open)} {one_of(call)} {lark.mark(close)}")
        return lark.rule(repeated(one, "", most=most))

    return calls


def _pythonic(open: Sequence[str], close: Sequence[str], separator: str) -> CallsRule:
    def calls(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
        call = [
            f"{literal(tool.name + '(')} {_arguments(lark, tool, call_values.keywords)} {literal(')')}"
            for tool in tools
        ]
        listed = repeated(lark.rule(one_of(call)), separator, most=most)
        return lark.rule(f"{' '.join(map(lark.mark, open))} {listed} {' '.join(map(lark.mark, close))}")

    return calls


def _harmony(lark: Lark, tools: Sequence[Tool], most: int | None, template: str) -> str:
    """One call: gpt-oss ends its turn with each."""
    mark, end = lark.mark("<|message|>"), lark.mark("<|call|>")
    head = f'{lark.mark("<|channel|>")} "commentary to=functions."'
    calls = [
        f'{literal(tool.name)} " " {lark.mark("<|constrain|>")} "json" {mark} {_json_arguments(lark, tool)} {end}'
        for tool in tools
    ]
    return lark.rule(f"{head} {one_of(calls)}")


_BARE_NAME = re.compile(r"[^\s<>=\"'(){}\[\]]+")
_NAMES: Mapping[str, re.Pattern[str]] = {
    "harmony": re.compile(r"[^\s<]+"),
    "qwen-coder": _BARE_NAME,
    "seed": _BARE_NAME,
    "glm": _BARE_NAME,
    "mistral": _BARE_NAME,
    "kimi": _BARE_NAME,
    "minimax": re.compile(r"[^\">]+"),
    "dsml": re.compile(r"[^\">]+"),
    "deepseek": re.compile(r"[^\s<`](?:[^\n<`]*[^\s<`])?"),
    "hunyuan": re.compile(r"[^\s<`](?:[^\n<`]*[^\s<`])?"),
    "gemma": re.compile(r"[^\s{}<]+"),
    "function-gemma": re.compile(r"[^\s{}<]+"),
    "pythonic": FUNCTION_NAME,
    "lfm": FUNCTION_NAME,
    "olmo": FUNCTION_NAME,
}
"""What a tool may be called where names are not in JSON's quotes, as `parsing` reads them."""

_RULES: Mapping[str, CallsRule] = {
    "harmony": _harmony,
    "hermes": _tagged("<tool_call>", "</tool_call>"),
    "qwen-coder": _elements("<tool_call>", "</tool_call>"),
    "seed": _elements("<seed:tool_call>", "</seed:tool_call>"),
    "glm": _glm,
    "minimax": _minimax,
    "mistral": _mistral,
    "deepseek": _fenced(
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        "\n",
    ),
    "dsml": _dsml,
    "hunyuan": _fenced("<tool_call>", "<tool_sep>", "</tool_call>", ("<tool_calls>", "</tool_calls>"), "\n"),
    "kimi": _kimi,
    "gemma": _gemma("<|tool_call>", "<tool_call|>", '<|"|>'),
    "function-gemma": _gemma("<start_function_call>", "<end_function_call>", "<escape>"),
    "phi": _listed("<|tool_call|>", "<|/tool_call|>"),
    "granite": _listed("<|tool_call|>", ""),
    "cohere": _listed("<|START_ACTION|>", "<|END_ACTION|>", "\n", arguments="parameters", name="tool_name"),
    "functools": _listed("functools", ""),
    "nemotron": _listed("<TOOLCALL>", "</TOOLCALL>"),
    "jamba": _listed("<tool_calls>", "</tool_calls>", "\n"),
    "olmo": _pythonic(["<function_calls>"], ["</function_calls>"], "\n"),
    "lfm": _pythonic(["<|tool_call_start|>", "["], ["]", "<|tool_call_end|>"], ", "),
    "pythonic": _pythonic(["["], ["]"], ", "),
    "apertus": _apertus,
    "llama-4": _bare("parameters", "; "),
    "llama-json": _bare("parameters", "; "),
    "json": _bare("arguments", "; "),
}
