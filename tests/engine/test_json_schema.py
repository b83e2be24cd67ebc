"""What a random model writes under a schema is valid by it; what can't be enforced is refused by name."""

import datetime
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import torch
from transformers import AutoTokenizer

from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.grammars.formats import MAX_BYTES, grammar_of
from hugging_llama.engine.grammars.mask import GrammarMask
from hugging_llama.errors import GrammarError
from hugging_llama.neutral.formats import Choice, JsonSchema, Lark, OutputFormat, Regex
from tests.engine.checkpoints import DEMO
from tests.engine.masks import constrained
from tests.engine.random_schemas import random_schema
from tests.engine.schemas import REFUSED, SCHEMAS

WIDTH = 2048
EOS = 2
_MOST_TOKENS = 1500


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(AutoTokenizer.from_pretrained(DEMO), width=WIDTH, eos_token_ids={0, EOS})


def texts(compiler: GrammarCompiler, format: OutputFormat, seeds: range, *, may_go_on: bool = False) -> Iterator[str]:
    """What models at a very high temperature write; what closes something is a bit likelier, so that they end.

    `may_go_on`: leave out what does not end.
    """
    closers = [i for i in range(WIDTH) if compiler.tokenizer.decode([i]).strip()[:1] in tuple('"}]@:')]
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        mask = GrammarMask(compiler, grammar_of(format))
        ids: list[int] = []
        while not mask.finished:
            row = torch.randn(WIDTH, generator=generator)
            row[closers] += min(2.0 + len(ids) / 50, 20.0)
            row = constrained(row, mask)
            token_id = int(row.argmax())
            if token_id in (0, EOS):
                break
            mask.accept(token_id)
            ids.append(token_id)
            if may_go_on and len(ids) == _MOST_TOKENS:
                break
            assert len(ids) < _MOST_TOKENS, "it does not end"
        if len(ids) < _MOST_TOKENS:
            yield str(compiler.tokenizer.decode(ids))


def _check(schema: dict[str, Any], text: str) -> None:
    value = json.loads(text)
    checker = jsonschema.FormatChecker()
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)
    if schema.get("format") == "date-time":
        datetime.datetime.fromisoformat(value.upper().replace("Z", "+00:00").replace(":60", ":59"))


def _walk(compiler: GrammarCompiler, name: str, seeds: range) -> None:
    schema = SCHEMAS[name]
    for text in texts(compiler, JsonSchema(json.dumps(schema)), seeds):
        try:
            _check(schema, text)
        except (ValueError, jsonschema.ValidationError) as error:
            raise AssertionError(f"{text!r} is not valid: {error}") from error


@pytest.mark.parametrize("name", SCHEMAS)
def test_random_models_write_what_is_valid(compiler: GrammarCompiler, name: str) -> None:
    _walk(compiler, name, range(8))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMAS)
def test_thousands_of_samples_are_valid(compiler: GrammarCompiler, name: str) -> None:
    _walk(compiler, name, range(100, 250))


def _walk_random(compiler: GrammarCompiler, seeds: range) -> None:
    """Most of the schemas are enforced; the others are refused, not relaxed."""
    num_enforced = 0
    for seed in seeds:
        schema = random_schema(random.Random(seed))
        try:
            for text in texts(compiler, JsonSchema(json.dumps(schema)), range(seed, seed + 2), may_go_on=True):
                try:
                    _check(schema, text)
                except (ValueError, jsonschema.ValidationError) as error:
                    raise AssertionError(f"{json.dumps(schema)}: {text!r}: {error}") from error
        except GrammarError:
            continue
        num_enforced += 1
    assert num_enforced > len(seeds) / 2


def test_random_schemas_are_enforced_or_refused(compiler: GrammarCompiler) -> None:
    _walk_random(compiler, range(200))


@pytest.mark.slow
def test_thousands_of_random_schemas_are_enforced_or_refused(compiler: GrammarCompiler) -> None:
    _walk_random(compiler, range(1000, 6000))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_enforced_is_refused_by_name(compiler: GrammarCompiler, name: str) -> None:
    schema, word = REFUSED[name]
    with pytest.raises(GrammarError, match=word):
        GrammarMask(compiler, grammar_of(JsonSchema(json.dumps(schema))))


def test_bounds_that_exclude_as_before_draft_6(compiler: GrammarCompiler) -> None:
    schema = {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 0.5}
    for text in texts(compiler, JsonSchema(json.dumps(schema)), range(8)):
        assert 0 < json.loads(text) <= 0.5


def test_keys_come_in_the_order_of_the_schema(compiler: GrammarCompiler) -> None:
    for text in texts(compiler, JsonSchema(json.dumps(SCHEMAS["order of keys"])), range(3)):
        assert list(json.loads(text)) == ["z", "m", "a"]


def test_a_regex_a_choice_and_grammars(compiler: GrammarCompiler) -> None:
    assert all(re.fullmatch("[a-c]{3}x?", text) for text in texts(compiler, Regex("[a-c]{3}x?"), range(10)))
    options = ('yes "indeed"', "no\n", "no\nway", "vielleicht: ü")
    found = set(texts(compiler, Choice(options), range(30)))
    assert found == set(options)
    lark = 'start: NUMBER OP NUMBER\nNUMBER: /[0-9]{1,3}/\nOP: "+" | "-"'
    assert all(re.fullmatch(r"\d{1,3}[+-]\d{1,3}", text) for text in texts(compiler, Lark(lark), range(10)))
    ebnf = 'root ::= "<" [a-z] [a-z] ">"'
    assert all(re.fullmatch("<[a-z]{2}>", text) for text in texts(compiler, Lark(ebnf), range(10)))


@pytest.mark.parametrize(
    "format",
    [
        Regex("("),
        Regex("a" * (MAX_BYTES + 1)),
        Choice(()),
        Choice(("",)),
        Choice(("x",) * 5000),
        Lark("start: nobody"),
        Lark("root ::= ("),
        JsonSchema("{"),
        JsonSchema("[]"),
        JsonSchema("[" * 100_000),
        JsonSchema(json.dumps({"enum": ["x" * MAX_BYTES]})),
        JsonSchema(json.dumps({"type": "string", "pattern": "(" * 20_000})),
    ],
)
def test_what_makes_no_sense_is_refused(compiler: GrammarCompiler, format: OutputFormat) -> None:
    with pytest.raises(GrammarError):
        GrammarMask(compiler, grammar_of(format))
