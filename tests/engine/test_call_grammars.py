"""Whatever a random model wants to say, under an enforced tool choice it calls a tool with valid arguments."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import torch
from transformers import AutoTokenizer

from hugging_llama.engine.grammars.answers import CallContext, answer_grammar
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.grammars.mask import GrammarMask
from hugging_llama.errors import GrammarError, InvalidRequestError
from hugging_llama.neutral.formats import JsonSchema
from hugging_llama.neutral.messages import Tool, ToolCall
from hugging_llama.neutral.requests import ToolChoice
from hugging_llama.parsing import tool_formats
from hugging_llama.parsing.harmony import HarmonyParser
from hugging_llama.parsing.parts import Thought
from hugging_llama.parsing.tool_calls import ToolCallParser
from hugging_llama.parsing.tool_formats import ToolFormat
from tests.engine.checkpoints import DEMO
from tests.engine.masks import constrained

WIDTH = 2048
EOS = (0, 2)
_MOST_TOKENS = 2500

NOW = Tool(name="now", parameters={})
WEATHER = Tool(
    name="get_weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "where"},
            "days": {"type": "integer"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "exact": {"type": "boolean"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["city", "unit"],
    },
)
ROUTE = Tool(
    name="plan_route",
    parameters={
        "type": "object",
        "properties": {
            "stops": {"type": "array", "items": {"$ref": "#/$defs/stop"}, "minItems": 1, "maxItems": 2},
            "by": {"type": ["string", "null"]},
        },
        "required": ["stops"],
        "additionalProperties": False,
        "$defs": {
            "stop": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "at": {"type": "number"}},
                "required": ["name"],
                "additionalProperties": False,
            }
        },
    },
)
TOOLS = (NOW, WEATHER, ROUTE)
SCHEMAS = {tool.name: tool.parameters for tool in TOOLS}

FORMATS = {
    value.name: value for value in vars(tool_formats).values() if isinstance(value, ToolFormat)
}  # fmt: skip
TEMPLATES = {"mistral": ["", "[ARGS]"], "deepseek": ["", "```json"], "hunyuan": ["", "```json"]}
ENDS = (
    "<|end|>",
    "\n</parameter>\n",
    "</parameter>\n",
    "</arg_value>\n",
    '<|"|>',
    "<escape>",
    "</｜DSML｜parameter>\n",
)
CASES = [(name, template) for name in FORMATS for template in TEMPLATES.get(name, [""])]


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(AutoTokenizer.from_pretrained(DEMO), width=WIDTH, eos_token_ids=EOS)


def context(compiler: GrammarCompiler, format: str, template: str = "", **choice: Any) -> CallContext:
    return CallContext(
        format=FORMATS[format],
        template=template,
        tools=TOOLS,
        choice=ToolChoice(**({"mode": "required"} | choice)),
    )


def answers(compiler: GrammarCompiler, grammar: str, seeds: range) -> Iterator[str]:
    """What models at a very high temperature write.

    What closes something becomes likelier, and now and then they write what ends a text, so that they come to an end.
    """
    texts = [compiler.tokenizer.decode([i]) for i in range(WIDTH)]
    closers = [i for i, text in enumerate(texts) if text.strip()[:1] in tuple('"}])<|')]
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        mask = GrammarMask(compiler, grammar)
        ids: list[int] = []
        ending: list[int] = []
        while not mask.finished:
            row = torch.randn(WIDTH, generator=generator)
            row[closers] += min(len(ids) / 20, 30.0)
            row[list(EOS)] += 3.0
            if forced := mask.forced():
                row[forced[0]] += 40.0
            if not ending and len(ids) % 20 == 19:
                ending = compiler.tokenizer.encode(ENDS[len(ids) // 20 % len(ENDS)])
            if ending:
                row[ending[0]] += 60.0
            token_id = int(constrained(row, mask).argmax())
            ending = ending[1:] if ending and token_id == ending[0] else []
            if token_id in EOS:
                break
            mask.accept(token_id)
            ids.append(token_id)
            assert len(ids) < _MOST_TOKENS, compiler.tokenizer.decode(ids)
        yield str(compiler.tokenizer.decode(ids))


def calls_in(name: str, text: str) -> list[ToolCall]:
    parser = HarmonyParser() if name == "harmony" else ToolCallParser(FORMATS[name], schemas=SCHEMAS)
    parts = [*parser.push(text), *parser.finish()]
    assert all(isinstance(part, ToolCall | Thought) for part in parts), f"{text!r}: {parts}"
    return [part for part in parts if isinstance(part, ToolCall)]


def check(call: ToolCall, text: str) -> None:
    try:
        jsonschema.Draft202012Validator(SCHEMAS[call.name]).validate(call.arguments)
    except jsonschema.ValidationError as error:
        raise AssertionError(f"{text!r}: {call.arguments}: {error.message}") from error


@pytest.mark.parametrize(("name", "template"), CASES)
def test_a_required_call_comes_and_is_valid(compiler: GrammarCompiler, name: str, template: str) -> None:
    grammar = answer_grammar(None, context(compiler, name, template), special_ids=compiler.special_ids)
    assert grammar
    seen = set()
    for text in answers(compiler, grammar, range(6)):
        calls = calls_in(name, text)
        assert calls, text
        for call in calls:
            check(call, text)
            seen.add(call.name)
    assert len(seen) > 1


@pytest.mark.parametrize(("name", "template"), CASES)
def test_a_named_tool_is_called_once(compiler: GrammarCompiler, name: str, template: str) -> None:
    chosen = context(compiler, name, template, name="plan_route", parallel=False)
    grammar = answer_grammar(None, chosen, special_ids=compiler.special_ids)
    assert grammar
    for text in answers(compiler, grammar, range(3)):
        (call,) = calls_in(name, text)
        assert call.name == "plan_route"
        check(call, text)


def test_a_format_and_tools_give_one_or_the_other(compiler: GrammarCompiler) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    grammar = answer_grammar(
        JsonSchema(json.dumps(schema)), context(compiler, "hermes", mode="auto"), special_ids=compiler.special_ids
    )
    assert grammar
    kinds = set()
    for text in answers(compiler, grammar, range(12)):
        if text.startswith("<tool_call>"):
            kinds.add("call")
            for call in calls_in("hermes", text):
                check(call, text)
        else:
            kinds.add("answer")
            jsonschema.validate(json.loads(text), schema)
    assert kinds == {"call", "answer"}


def test_nothing_is_enforced_where_nothing_is_asked(compiler: GrammarCompiler) -> None:
    assert answer_grammar(None, context(compiler, "hermes", mode="auto"), special_ids={}) is None
    assert answer_grammar(None, context(compiler, "hermes", mode="none"), special_ids={}) is None
    assert answer_grammar(None, None, special_ids={}) is None


def test_a_name_that_is_no_tool(compiler: GrammarCompiler) -> None:
    with pytest.raises(InvalidRequestError, match="nobody"):
        answer_grammar(None, context(compiler, "hermes", name="nobody"), special_ids=compiler.special_ids)


@pytest.mark.parametrize("name", ["qwen-coder", "gemma", "pythonic"])
def test_a_keyword_that_a_format_can_not_enforce_is_refused(compiler: GrammarCompiler, name: str) -> None:
    tool = Tool(name="f", parameters={"type": "object", "properties": {"a": {"type": "string", "pattern": "^x$"}}})
    asked = context(compiler, name)
    with pytest.raises(GrammarError, match="pattern"):
        answer_grammar(
            None,
            CallContext(format=asked.format, template="", tools=(tool,), choice=asked.choice),
            special_ids=compiler.special_ids,
        )
