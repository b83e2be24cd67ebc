"""Whatever a tool's schema asks, an enforced call has arguments that are valid by it, or is refused with a reason."""

import json
import random
from typing import Any

import jsonschema
import pytest

from hugging_llama.engine.grammars.answers import CallContext, answer_grammar
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.grammars.mask import GrammarMask
from hugging_llama.engine.grammars.parameters import readable
from hugging_llama.errors import GrammarError
from hugging_llama.neutral.messages import Tool, ToolCall
from hugging_llama.neutral.requests import ToolChoice
from hugging_llama.parsing.harmony import HarmonyParser
from hugging_llama.parsing.parts import Thought
from hugging_llama.parsing.tool_calls import ToolCallParser
from tests.engine.random_parameters import random_parameters
from tests.engine.test_call_grammars import CASES, FORMATS, answers, compiler  # noqa: F401  # a fixture

NOT_JSON = ("pythonic", "gemma", "function-gemma", "qwen-coder", "glm", "minimax", "dsml")
BARE = ("qwen-coder", "seed", "glm", "minimax")
LITERALS = ("pythonic", "lfm", "olmo", "gemma", "function-gemma")
X = {"enum": ["x"]}
CLOSED = {"type": "object", "additionalProperties": False}


def grammar_for(compiler: GrammarCompiler, name: str, tool: Tool, template: str = "") -> str:
    """Of one call of this tool. Raises GrammarError, with the compilation's reasons among others."""
    choice = ToolChoice(mode="required", parallel=False)
    calls = CallContext(format=FORMATS[name], template=template, tools=(tool,), choice=choice)
    grammar = answer_grammar(None, calls, special_ids=compiler.special_ids)
    assert grammar
    GrammarMask(compiler, grammar)
    return grammar


def check(compiler: GrammarCompiler, name: str, tool: Tool, seeds: range, template: str = "") -> list[Any]:
    """What was called with. Raises GrammarError."""
    grammar, found = grammar_for(compiler, name, tool, template), []
    for text in answers(compiler, grammar, seeds):
        schemas = {tool.name: readable(tool.parameters)}
        parser = HarmonyParser() if name == "harmony" else ToolCallParser(FORMATS[name], schemas=schemas)
        parts = [part for part in [*parser.push(text), *parser.finish()] if not isinstance(part, Thought)]
        shown = f"{name}: {json.dumps(tool.parameters)}: {text!r}: {parts}"
        assert len(parts) == 1, shown
        (call,) = parts
        assert isinstance(call, ToolCall), shown
        assert call.name == tool.name, shown
        assert jsonschema.Draft202012Validator(tool.parameters).is_valid(call.arguments), shown
        found.append(call.arguments)
    return found


def walk(compiler: GrammarCompiler, name: str, seeds: range) -> None:
    num_enforced = 0
    for seed in seeds:
        tool = Tool(name="f", parameters=random_parameters(random.Random(seed)))
        try:
            check(compiler, name, tool, range(seed, seed + 2))
            num_enforced += 1
        except GrammarError as error:
            assert "'f'" in str(error), f"{error}: {json.dumps(tool.parameters)}"
    assert num_enforced > len(seeds) / 12


@pytest.mark.parametrize("name", [*NOT_JSON, "hermes"])
def test_random_schemas_are_kept_or_refused(compiler: GrammarCompiler, name: str) -> None:  # noqa: F811
    walk(compiler, name, range(40))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_hundreds_of_random_schemas_are_kept_or_refused(compiler: GrammarCompiler, name: str) -> None:  # noqa: F811
    walk(compiler, name, range(1000, 1800))
