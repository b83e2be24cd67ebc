"""Whatever a tool's schema asks, an enforced call has arguments that are valid by it, or is refused with a reason."""

# ruff: noqa: E501

import contextlib
import json
import random
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hugging_llama.engine.grammars.answers import CallContext, answer_grammar
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.grammars.keywords import KEYWORDS
from hugging_llama.engine.grammars.mask import GrammarMask
from hugging_llama.engine.grammars.parameters import readable
from hugging_llama.errors import GrammarError
from hugging_llama.neutral.messages import Tool, ToolCall
from hugging_llama.neutral.requests import ToolChoice
from hugging_llama.parsing.harmony import HarmonyParser
from hugging_llama.parsing.parts import Thought
from hugging_llama.parsing.tool_calls import ToolCallParser
from tests.engine.checkpoints import DEMO
from tests.engine.random_parameters import random_parameters
from tests.engine.test_call_grammars import EOS, FORMATS, WIDTH, answers

NOT_JSON = ("pythonic", "gemma", "function-gemma", "qwen-coder", "glm", "minimax", "dsml")
X = {"enum": ["x"]}
CLOSED = {"type": "object", "additionalProperties": False}


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(AutoTokenizer.from_pretrained(DEMO), width=WIDTH, eos_token_ids=EOS)


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
    reasons = []
    for seed in seeds:
        tool = Tool(name="f", parameters=random_parameters(random.Random(seed)))
        try:
            check(compiler, name, tool, range(seed, seed + 2))
        except GrammarError as error:
            reasons.append(str(error))
    assert len(reasons) < 0.9 * len(seeds)
    assert [reason for reason in reasons if "the tool 'f'" not in reason] == []


@pytest.mark.parametrize("name", NOT_JSON)
def test_random_schemas_are_kept_or_refused(compiler: GrammarCompiler, name: str) -> None:
    walk(compiler, name, range(10))


def tool(name: str = "f", **keywords: Any) -> Tool:
    return Tool(name=name, parameters=keywords)


@pytest.mark.parametrize("name", ["pythonic", "qwen-coder"])
@pytest.mark.parametrize(
    ("word", "parameters"),
    [
        ("minProperties", {"properties": {"a": X, "b": X}, "minProperties": 1}),
        ("maxProperties", {"properties": {"a": X, "b": X}, "maxProperties": 1}),
        ("anyOf", {"properties": {"a": X, "b": X}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        ("oneOf", {"properties": {"a": X, "b": X}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        ("dependentRequired", {"properties": {"a": X, "b": X}, "dependentRequired": {"a": ["b"]}}),
        ("patternProperties", {"properties": {"a": X}, "patternProperties": {"^z": {"type": "null"}}}),
        ("uniqueItems", {"properties": {"a": {"type": "array", "uniqueItems": True}}}),
        ("oneOf", {"properties": {"v": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}}),
        ("pattern", {"properties": {"v": {"type": "string", "pattern": "^[ab]{2}$"}}}),
        ("zz", {"properties": {"a": X}, "required": ["zz"], "additionalProperties": False}),
        ("enum", {"properties": {"v": {"type": "string", "enum": [5]}}}),
        ("properties", {"properties": [1]}),
        ("required", {"properties": {}, "required": "a"}),
        ("minItems", {"properties": {"a": {"type": "array", "minItems": "2"}}}),
        ("maxLength", {"properties": {"a": {"type": "string", "maxLength": "1}/ | /x{1"}}}),
        ("itself", {"$ref": "#"}),
        ("nobody", {"$ref": "#/$defs/nobody"}),
        ("additionalProperties", {"additionalProperties": {"type": "string"}}),
        ("x-guidance", {"properties": {}, "x-guidance": {"lenient": True}}),
    ],
)
def test_what_a_format_does_not_keep_is_refused_by_name(
    compiler: GrammarCompiler, name: str, word: str, parameters: dict[str, Any]
) -> None:
    with pytest.raises(GrammarError, match=f"'f'.*{word}"):
        grammar_for(compiler, name, tool(**parameters))


@pytest.mark.parametrize("name", ["pythonic", "gemma", "qwen-coder", "glm", "dsml", "hermes"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"$ref": "#/$defs/p", "$defs": {"p": {**CLOSED, "properties": {"a": X}, "required": ["a"]}}},
        {"allOf": [{"properties": {"a": X}, "required": ["a"]}, {"properties": {"b": X}, "required": ["b"]}]},
        {"properties": {"a": X}, "required": ["a", "zz"]},
        {"properties": {}, "required": ["q"], "additionalProperties": {"type": "boolean"}},
        {
            "properties": {"a": X},
            "required": ["a"],
            "additionalProperties": {"type": "string", "maxLength": 3},
            "maxProperties": 2,
        },
        {"properties": {"v": {"type": "string", "enum": ["x", 5]}}, "required": ["v"]},
        {"properties": {"v": {"const": None}}, "required": ["v"]},
        {
            "properties": {"v": {"type": ["boolean", "null"]}, "w": {"type": "object", "properties": {}}},
            "required": ["v"],
        },
        {"properties": {"v": {"enum": [1, "true"]}}, "required": ["v"]},
        {"properties": {"v": {"enum": ["1", "true", "null", 1, True, None]}}, "required": ["v"]},
        {"properties": {"v": {"type": "string", "anyOf": [X, {"type": "integer"}]}}, "required": ["v"]},
        {
            "properties": {"v": {"anyOf": [{"$ref": "#/$defs/e"}, {"type": "null"}]}},
            "$defs": {"e": X},
            "required": ["v"],
        },
        {"properties": {"v": {"oneOf": [{"type": "boolean"}, {"type": "null"}]}}, "required": ["v"]},
        {"properties": {"from": X, "max-temp": {"type": "boolean"}, "in": {}}, "required": ["from", "max-temp", "in"]},
        {"properties": {"a": X}, "required": ["a"], "minProperties": 1, "maxProperties": 3},
        {"properties": {"a": {"type": "array", "items": X, "maxItems": 2, "uniqueItems": False}}, "required": ["a"]},
    ],
)
def test_what_every_format_keeps(compiler: GrammarCompiler, name: str, parameters: dict[str, Any]) -> None:
    assert check(compiler, name, tool(**parameters), range(1))


def test_arguments_within_arguments(compiler: GrammarCompiler) -> None:
    within = tool(properties={"from": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, required=["from"])
    matcher = compiler.matcher(grammar_for(compiler, "pythonic", within))
    for text, is_valid in (('[f(from={"from": None})]', True), ("[f(from={from=None})]", False)):
        tokens = compiler.tokenizer.encode(text, add_special_tokens=False)
        assert (matcher.validate_tokens(tokens) == len(tokens)) is is_valid


@pytest.mark.parametrize("name", ["qwen-coder", "seed", "minimax", "gemma", "glm"])
def test_a_given_string_that_would_end_its_value_is_refused(compiler: GrammarCompiler, name: str) -> None:
    end = {"gemma": '<|"|>', "glm": "</arg_value>"}.get(name, "</parameter>")
    with pytest.raises(GrammarError, match=r"'f'.*no room"):
        grammar_for(compiler, name, tool(properties={"a": {"enum": [f"x{end}y", "b"]}}))


@pytest.mark.parametrize("name", ["qwen-coder", "seed", "glm", "minimax", "dsml"])
def test_a_text_ends_at_its_first_closing_tag(compiler: GrammarCompiler, name: str) -> None:
    grammar = grammar_for(compiler, name, tool(properties={"a": {"type": "string"}}, required=["a"]))
    text = next(answers(compiler, grammar, range(1)))
    tag = {"glm": "</arg_value>", "dsml": "</｜DSML｜parameter>"}.get(name, "</parameter>")
    matcher = compiler.matcher(grammar)
    tokens = compiler.tokenizer.encode(text.partition(tag)[0] + f"{tag}x", add_special_tokens=False)
    assert matcher.validate_tokens(tokens) < len(tokens)


def test_json_may_hold_the_tag_that_ends_it(compiler: GrammarCompiler) -> None:
    schemas = {"f": {"properties": {"a": {"type": "array"}, "b": {"type": "string"}}}}
    texts = {
        "qwen-coder": '<tool_call>\n<function=f>\n<parameter=a>\n["</parameter>"]\n</parameter>\n<parameter=b>\n[x\n</parameter>\n</function>\n</tool_call>',
        "glm": '<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>["</arg_value>"]</arg_value>\n<arg_key>b</arg_key>\n<arg_value>[x</arg_value>\n</tool_call>',
        "minimax": '<minimax:tool_call>\n<invoke name="f">\n<parameter name="a">["</parameter>"]</parameter>\n<parameter name="b">[x</parameter>\n</invoke>\n</minimax:tool_call>',
    }  # fmt: skip
    for name, text in texts.items():
        value = ["</arg_value>"] if name == "glm" else ["</parameter>"]
        (call,) = ToolCallParser(FORMATS[name], schemas=schemas).push(text)
        assert isinstance(call, ToolCall)
        assert call.arguments == {"a": value, "b": "[x"}


BAD_NAMES = {
    "qwen-coder": ["a b", "a<b", "a=b", 'a"b', "a{b", "a(b"],
    "seed": ["a b", "a<b"],
    "glm": ["a b", "a{b"],
    "kimi": ["a b", "a{b"],
    "gemma": ["a b", "a{b"],
    "minimax": ['a"b', "a>b"],
    "harmony": ["a b", "a<b"],
    "mistral": ["a b", "a{b"],
    "pythonic": ["a b", "a/b", "1a", "a-"],
}
GOOD_NAMES = {name: ["get-weather", "mcp.srv.get_it", "wetter_für", "from", "class.in"] for name in sorted({*FORMATS})}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_tool_whose_name_a_format_can_not_write_is_refused(compiler: GrammarCompiler, name: str) -> None:
    for bad in BAD_NAMES[name]:
        with pytest.raises(GrammarError, match="tool name"):
            grammar_for(compiler, name, tool(bad, properties={"a": X}), template="[ARGS]")


@pytest.mark.parametrize(
    "name", ["pythonic", "gemma", "qwen-coder", "glm", "minimax", "kimi", "mistral", "harmony", "deepseek"]
)
def test_a_name_that_comes_back(compiler: GrammarCompiler, name: str) -> None:
    wanted = tool("class.get-für_1", properties={"a": X}, required=["a"])
    assert check(compiler, name, wanted, range(1), "[ARGS]")


_ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["#", "#/$defs/a", "#/properties/a", "string", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*sorted(KEYWORDS), "$defs", "a"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.sampled_from([*NOT_JSON, "hermes"]), st.dictionaries(st.sampled_from([*sorted(KEYWORDS), "$defs"]), _ANY_JSON)
)
def test_whatever_a_schema_is_made_of_it_is_kept_or_refused(name: str, parameters: dict[str, Any]) -> None:
    choice = ToolChoice(mode="required")
    calls = CallContext(format=FORMATS[name], template="", tools=(tool(**parameters),), choice=choice)
    readable(parameters)
    with contextlib.suppress(GrammarError):
        answer_grammar(None, calls, special_ids={})


@pytest.mark.parametrize("name", ["pythonic", "qwen-coder", "hermes"])
@pytest.mark.parametrize("step", ["$ref", "anyOf", "allOf"])
def test_long_chains_and_trees_of_references_are_read_in_bounded_time(
    compiler: GrammarCompiler, name: str, step: str
) -> None:
    # a tree of 2**3000 branches; who opened all of them would never come back
    defs: dict[str, Any] = {"n3000": X}
    for number in range(3000):
        target = {"$ref": f"#/$defs/n{number + 1}"}
        defs[f"n{number}"] = target if step == "$ref" else {step: [target, target]}
    deep = Tool(name="f", parameters={"properties": {"a": {"$ref": "#/$defs/n0"}}, "required": ["a"], "$defs": defs})
    assert readable(deep.parameters)
    top = Tool(name="f", parameters={"$ref": "#/$defs/n0", "$defs": defs})
    assert readable(top.parameters)
    for each in (deep, top):
        with pytest.raises(GrammarError):
            grammar_for(compiler, name, each)


def test_a_fault_that_the_compilation_finds_names_its_tool(compiler: GrammarCompiler) -> None:
    wanting = tool("odd", properties={"a": {"type": "array", "uniqueItems": True}}, required=["a"])
    calls = CallContext(
        format=FORMATS["hermes"], template="", tools=(tool("fine"), wanting), choice=ToolChoice(mode="required")
    )
    grammar = answer_grammar(None, calls, special_ids=compiler.special_ids)
    with pytest.raises(GrammarError, match=r"^the tool 'odd' can't be enforced: .*uniqueItems[^{]*$"):
        GrammarMask(compiler, grammar)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_hundreds_of_random_schemas_are_kept_or_refused(compiler: GrammarCompiler, name: str) -> None:
    walk(compiler, name, range(1000, 1800))
