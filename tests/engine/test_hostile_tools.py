"""Tools' schemas that ask for much work, or hold what no schema holds: an answer or a reason, and no other error."""

import contextlib
from typing import Any

import pytest

from hugging_llama.engine.grammars import call_values, lark
from hugging_llama.engine.grammars.answers import CallContext, answer_grammar
from hugging_llama.engine.grammars.parameters import readable
from hugging_llama.errors import GrammarError
from hugging_llama.neutral.messages import Tool, ToolCall
from hugging_llama.neutral.requests import ToolChoice
from hugging_llama.parsing.call_bodies import typed_value
from hugging_llama.parsing.tool_calls import ToolCallParser
from tests.engine.test_call_grammars import FORMATS

NOT_JSON = ("pythonic", "gemma", "function-gemma", "qwen-coder", "glm", "minimax", "seed", "dsml")


def grammar_for(name: str, parameters: dict[str, Any]) -> str:
    """Of calls of this tool, not compiled."""
    tool = Tool(name="f", parameters=parameters)
    calls = CallContext(format=FORMATS[name], template="", tools=(tool,), choice=ToolChoice(mode="required"))
    grammar = answer_grammar(None, calls, special_ids={})
    assert grammar
    return grammar


def chains(depth: int, step: dict[str, Any], last: str) -> dict[str, Any]:
    """A definition for each level, `step` with NEXT in it for the level below; another chain for each `last` value."""
    found: dict[str, Any] = {}
    for chain in ("a", "b"):
        for level in range(depth):
            found[f"{chain}{level}"] = _filled(step, f"#/$defs/{chain}{level + 1}")
        found[f"{chain}{depth}"] = {"type": "string", "enum": [f"{chain}{last}"]}
    return found


def _filled(value: Any, target: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, target) for key, each in value.items()}
    return (
        [_filled(each, target) for each in value] if isinstance(value, list) else target if value == "NEXT" else value
    )


NEXT = {"$ref": "NEXT"}
OBJECTS = {"type": "object", "properties": {"p": NEXT, "q": NEXT}, "required": ["p", "q"]}
TWO = [{"$ref": "#/$defs/a0"}, {"$ref": "#/$defs/b0"}]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that were counted, of which there may be few."""
    monkeypatch.setattr(lark, "_MOST_STEPS", 3000)
    counted: list[int] = []
    spend = lark.Lark.spend

    def counting(self: lark.Lark, steps: int) -> None:
        counted.append(steps)
        spend(self, steps)

    monkeypatch.setattr(lark.Lark, "spend", counting)
    return counted


@pytest.mark.parametrize("name", ["gemma", "pythonic"])
def test_pairs_of_chains_are_compared_once(name: str, steps: list[int]) -> None:
    value = {"oneOf": TWO}
    grammar_for(name, {"properties": {"v": value}, "$defs": chains(20, OBJECTS, "")})
    assert 40 <= sum(steps) < 3000


@pytest.mark.parametrize("name", ["gemma", "pythonic", "qwen-coder", "glm", "minimax", "seed"])
@pytest.mark.parametrize("step", ["typed reference", "typed branches"])
def test_chains_of_branches_end(name: str, step: str, steps: list[int]) -> None:
    branches = {"type": "string", "anyOf": [{"$ref": "NEXT"}, {"$ref": "NEXT"}]}
    first = {"$ref": "#/$defs/a0", "type": "string"} if step == "typed reference" else {"type": "string", "anyOf": TWO}
    with pytest.raises(GrammarError, match=r"too large or refer too deep|can't be held to \$ref"):
        grammar_for(name, {"properties": {"v": first}, "$defs": chains(40, branches, "")})
    assert sum(steps) < 4000


@pytest.mark.parametrize("name", [*NOT_JSON, "hermes"])
@pytest.mark.parametrize(
    "value",
    [
        {"anyOf": [{"type": {"x": 1}}]},
        {"anyOf": [{"type": 5}, {"type": "string"}]},
        {"anyOf": [{"type": [["x"]]}, {"type": "string"}]},
        {"enum": 5},
        {"enum": True},
        {"type": "object", "properties": {"a": {}}, "minProperties": 10**400},
        {"type": "array", "items": {}, "minItems": 10**400},
    ],
)
def test_what_no_schema_holds_is_refused_and_read_as_text(name: str, value: Any) -> None:
    parameters = {"properties": {"v": value}, "required": ["v"]}
    with contextlib.suppress(GrammarError):
        grammar_for(name, parameters)
    texts = {
        "qwen-coder": "<tool_call>\n<function=f>\n<parameter=v>\nx\n</parameter>\n</function>\n</tool_call>",
        "seed": "<seed:tool_call>\n<function=f>\n<parameter=v>\nx\n</parameter>\n</function>\n</seed:tool_call>",
        "glm": "<tool_call>f\n<arg_key>v</arg_key>\n<arg_value>x</arg_value>\n</tool_call>",
        "minimax": '<minimax:tool_call>\n<invoke name="f">\n<parameter name="v">x</parameter>\n</invoke>\n'
        "</minimax:tool_call>",
    }
    if name in texts:
        (call,) = ToolCallParser(FORMATS[name], schemas={"f": readable(parameters)}).push(texts[name])
        assert isinstance(call, ToolCall)
        assert call.arguments == {"v": "x"}


@pytest.mark.parametrize("value", [{"enum": [10**400, 1]}, {"const": 10**400}])
def test_numbers_beyond_floats_can_be_given(value: Any) -> None:
    for name in NOT_JSON:
        assert "0" * 400 in grammar_for(name, {"properties": {"v": value}})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["string", "null"]},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {"type": ["string", "integer"]},
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    ],
)
def test_quotes_of_a_bare_text_are_its_own(schema: dict[str, Any]) -> None:
    for text in ('"use strict"', '"a\\n"', '""'):
        assert typed_value(text, schema) == text
    assert typed_value("null", {"type": ["string", "null"]}) is None
    assert typed_value("5", {"type": ["string", "integer"]}) == 5


def test_many_given_values_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def reading(text: str, schema: Any) -> Any:
        read.append(text)
        return typed_value(text, schema)

    monkeypatch.setattr(call_values, "typed_value", reading)
    given = [*(f"w{number}" for number in range(200)), 5]
    for each in (given, given[:-1]):
        assert '"w199"' in grammar_for("qwen-coder", {"properties": {"v": {"enum": each}}})
    assert len(read) <= 201
    with pytest.raises(GrammarError, match="too large"):
        grammar_for("qwen-coder", {"properties": {"v": {"enum": [*range(2000), "x"]}}})


def test_large_schemas_are_not_copied_for_each_reference() -> None:
    large = {"anyOf": [{"type": "null"}], **{f"note{number}": 1 for number in range(20_000)}}
    names = {f"p{number}": {"$ref": "#/$defs/large"} for number in range(400)}
    found = readable({"properties": names, "$defs": {"large": large}})["properties"]
    assert sum(len(each) > 20_000 for each in found.values()) < 10
