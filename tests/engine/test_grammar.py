"""JSON mode: whatever the model wants to say, one JSON object comes out."""

import json
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from hugging_llama.engine.grammars.bits import all_bits
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.grammars.formats import grammar_of
from hugging_llama.engine.grammars.mask import GrammarMask
from hugging_llama.engine.grammars.thinking import ThinkingGate
from hugging_llama.errors import GenerationError, GrammarError
from hugging_llama.neutral.formats import JsonObject
from hugging_llama.parsing.thinking_tags import ThinkingTags
from tests.engine.checkpoints import DEMO, byte_tokenizer, piece_tokenizer
from tests.engine.masks import constrained

OBJECT = grammar_of(JsonObject())
THINK = ThinkingTags("<think>", "</think>")


def thinking_mask(compiler: GrammarCompiler, grammar: str | None = OBJECT, **options: Any) -> GrammarMask:
    options = {"inside": False, "budget": None} | options
    gate = ThinkingGate(compiler.tokenizer, THINK, compiler.eos_token_ids, **options)
    return GrammarMask(compiler, grammar, gate)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer(markers=("<think>", "</think>"))


@pytest.fixture(scope="module")
def grammar(tokenizer: Any) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, width=len(tokenizer) + 29, eos_token_ids={tokenizer.eos_token_id})


def walk(mask: GrammarMask, width: int, *, seed: int, closers: list[int], eos: int, most: int = 3000) -> list[int]:
    """Random tokens under the mask, as a model at a very high temperature; brackets and quotes a bit likelier."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = []
    while not mask.finished and len(ids) < most:
        row = torch.randn(width, generator=generator)
        row[closers] += 3.0
        row = constrained(row, mask)
        assert torch.isfinite(row).any()
        token_id = int(row.argmax())
        if token_id == eos:
            break
        mask.accept(token_id)
        ids.append(token_id)
    return ids


def closers(tokenizer: Any) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(text) for text in ('"', "}", "]")]


@pytest.mark.parametrize("seed", range(15))
def test_random_bytes_become_an_object(tokenizer: Any, grammar: GrammarCompiler, seed: int) -> None:
    ids = walk(
        GrammarMask(grammar, OBJECT),
        len(tokenizer) + 29,
        seed=seed,
        closers=closers(tokenizer),
        eos=tokenizer.eos_token_id,
    )
    assert isinstance(json.loads(str(tokenizer.decode(ids))), dict)


def test_the_demo_models_tokenizer() -> None:
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    grammar = GrammarCompiler(tokenizer, width=2048, eos_token_ids={0, 2})
    for seed in range(5):
        ids = walk(GrammarMask(grammar, OBJECT), 2048, seed=seed, closers=closers(tokenizer), eos=2)
        assert isinstance(json.loads(str(tokenizer.decode(ids))), dict)


def test_blanks_can_not_go_on_for_ever(tokenizer: Any, grammar: GrammarCompiler) -> None:
    mask = GrammarMask(grammar, OBJECT)
    blank = tokenizer.encode(" ")[0]
    mask.accept(tokenizer.encode("{")[0])
    for _ in range(2):
        mask.accept(blank)
    row = torch.zeros(len(tokenizer))
    row = constrained(row, mask)
    assert row[blank] == float("-inf")


def test_the_end_is_only_allowed_at_the_end(tokenizer: Any, grammar: GrammarCompiler) -> None:
    mask = GrammarMask(grammar, OBJECT)
    row = torch.zeros(len(tokenizer) + 29)
    row = constrained(row, mask)
    assert row[tokenizer.eos_token_id] == float("-inf")
    assert torch.isinf(row[len(tokenizer) :]).all()
    for token_id in tokenizer.encode("{}"):
        assert not mask.finished
        mask.accept(token_id)
    assert mask.finished


def test_a_token_that_may_not_follow(tokenizer: Any, grammar: GrammarCompiler) -> None:
    with pytest.raises(GenerationError):
        GrammarMask(grammar, OBJECT).accept(tokenizer.encode("x")[0])


def test_thinking_is_free_and_the_answer_is_not(tokenizer: Any, grammar: GrammarCompiler) -> None:
    mask = thinking_mask(grammar, inside=True)
    eos = tokenizer.eos_token_id
    for token_id in tokenizer.encode("so, {what"):
        row = torch.zeros(len(tokenizer) + 29)
        row = constrained(row, mask)
        assert torch.isinf(row).nonzero().flatten().tolist() == [eos]
        mask.accept(token_id)
    mask.accept(tokenizer.convert_tokens_to_ids("</think>"))
    row = torch.zeros(len(tokenizer) + 29)
    row = constrained(row, mask)
    assert torch.isfinite(row).nonzero().flatten().tolist() == tokenizer.encode("{")


@pytest.mark.parametrize("marked", [True, False])
def test_a_model_may_think_or_answer_at_once(marked: bool) -> None:
    tokenizer = byte_tokenizer(markers=("<think>", "</think>") if marked else ())
    grammar = GrammarCompiler(tokenizer, width=len(tokenizer), eos_token_ids={tokenizer.eos_token_id})
    opening = tokenizer.encode("<think>")
    start = torch.zeros(len(tokenizer))
    start = constrained(start, thinking_mask(grammar))
    assert set(torch.isfinite(start).nonzero().flatten().tolist()) == {opening[0], *tokenizer.encode("{")}

    answering = thinking_mask(grammar)
    for token_id in tokenizer.encode("{}"):
        answering.accept(token_id)
    assert answering.finished

    thinking = thinking_mask(grammar)
    for token_id in tokenizer.encode("<think>hm</think>{}"):
        row = torch.zeros(len(tokenizer))
        row = constrained(row, thinking)
        assert torch.isfinite(row[token_id])
        thinking.accept(token_id)
    assert thinking.finished


def test_a_sentencepiece_like_tokenizer() -> None:
    tokenizer = piece_tokenizer()
    grammar = GrammarCompiler(tokenizer, width=len(tokenizer), eos_token_ids={2})
    ids = walk(
        GrammarMask(grammar, OBJECT),
        len(tokenizer),
        seed=1,
        closers=[3 + ord(c) for c in '"}]'],
        eos=2,
    )
    assert isinstance(json.loads(str(tokenizer.decode(ids))), dict)


class NoFastTokenizer:
    is_fast = False

    def __len__(self) -> int:
        return 10


def test_a_tokenizer_that_can_not_be_constrained() -> None:
    with pytest.raises(GrammarError):
        GrammarCompiler(NoFastTokenizer(), width=10, eos_token_ids={1})


def test_reasoning_ends_with_its_budget(tokenizer: Any, grammar: GrammarCompiler) -> None:
    """Twenty tokens at the most, and with the sentence in the last eighth."""
    for said, expected in (("x" * 40, 20), ("x" * 17 + ". And so on", 18), ("x" * 10 + ". And so on and on", 20)):
        mask = thinking_mask(grammar, None, inside=True, budget=20)
        ids: list[int] = []
        wanted = tokenizer.encode(said)
        while tokenizer.convert_tokens_to_ids("</think>") not in ids:
            row = torch.zeros(len(tokenizer) + 29)
            row[wanted[len(ids)]] = 1.0
            ids.append(int(constrained(row, mask).argmax()))
            mask.accept(ids[-1])
        assert len(ids) == expected + 1
        bits = all_bits(1, len(tokenizer))
        assert not mask.fill(bits[0]), "the answer is free"
        assert not mask.finished


def test_a_budget_of_nothing_and_a_grammar(tokenizer: Any, grammar: GrammarCompiler) -> None:
    mask = thinking_mask(grammar, inside=False, budget=0)
    for token_id in tokenizer.encode("<think></think>{}"):
        row = torch.zeros(len(tokenizer) + 29)
        assert torch.isfinite(constrained(row, mask)[token_id])
        mask.accept(token_id)
    assert mask.finished
