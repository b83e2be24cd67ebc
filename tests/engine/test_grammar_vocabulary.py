"""Vocabularies for grammars: of tokenizers with thousands of added tokens as of those with a few."""

import random
import time
from typing import Any

import llguidance.numpy
import pytest
from llguidance import LLMatcher
from tokenizers import AddedToken
from transformers import AutoTokenizer

from hugging_llama.engine.grammars import vocabulary
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.grammars.formats import grammar_of
from hugging_llama.engine.grammars.vocabulary import grammar_vocabulary
from hugging_llama.neutral.formats import JsonObject, Regex
from tests.engine.checkpoints import DEMO, byte_tokenizer, piece_tokenizer

TOKENIZERS = {
    "demo": lambda: AutoTokenizer.from_pretrained(DEMO),
    "bytes": lambda: byte_tokenizer(markers=("<think>", "</think>", "ab c", '"x": ')),
    "pieces": piece_tokenizer,
}
GRAMMARS = (
    grammar_of(JsonObject()),
    grammar_of(Regex(pattern=r"(the sky is blue|[a-z <>|_]{0,40}x)")),
    LLMatcher.grammar_from_lark('start: "yes" | <[2]> /[^{]*/'),
)


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_masks_are_those_of_the_librarys_own_reading(monkeypatch: pytest.MonkeyPatch, name: str, grammar: str) -> None:
    tokenizer: Any = TOKENIZERS[name]()
    size, eos = len(tokenizer), [tokenizer.eos_token_id]
    own = grammar_vocabulary(tokenizer, size, eos)
    monkeypatch.setattr(vocabulary, "_MOST_READ_ADDED", 0)
    ours = grammar_vocabulary(tokenizer, size, eos)

    assert [own.is_special_token(i) for i in range(size)] == [ours.is_special_token(i) for i in range(size)]
    for seed in range(5):
        chance = random.Random(seed)
        matchers = [LLMatcher(found, grammar) for found in (own, ours)]
        for _ in range(60):
            rows = [llguidance.numpy.allocate_token_bitmask(1, size) for _ in matchers]
            for matcher, row in zip(matchers, rows, strict=True):
                llguidance.numpy.fill_next_token_bitmask(matcher, row, 0)
            assert (rows[0] == rows[1]).all()
            allowed = [i for i in range(size) if rows[0][0, i // 32] >> (i % 32) & 1]
            token_id = chance.choice(allowed)
            assert all(matcher.consume_token(token_id) for matcher in matchers)
            if matchers[0].is_stopped():
                break
        assert matchers[0].is_stopped() == matchers[1].is_stopped()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_forced_texts_are_read_alike(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tokenizer: Any = TOKENIZERS[name]()
    size, eos, text = len(tokenizer), [tokenizer.eos_token_id], " the sky is blue. Émile"
    own = grammar_vocabulary(tokenizer, size, eos)
    monkeypatch.setattr(vocabulary, "_MOST_READ_ADDED", 0)
    ours = grammar_vocabulary(tokenizer, size, eos)
    assert own.tokenize_str(text) == ours.tokenize_str(text)
    assert ours.decode_str(ours.tokenize_str(text)) == text


@pytest.mark.parametrize("special", [True, False])
def test_a_token_for_each_of_65536_sounds(special: bool) -> None:
    """In a tenth of the time that the library's own reading of them takes."""
    tokenizer: Any = byte_tokenizer()
    tokenizer.add_tokens([AddedToken(f"<sound {number}>", special=special) for number in range(65_536)])
    began_at = time.process_time()
    compiler = GrammarCompiler(tokenizer, width=len(tokenizer), eos_token_ids={tokenizer.eos_token_id})
    assert time.process_time() - began_at < 8
    try:
        matcher = compiler.matcher(grammar_of(JsonObject()))
        for token_id in tokenizer.encode('{"<sou'):
            assert matcher.consume_token(token_id)
        sound = tokenizer.convert_tokens_to_ids("<sound 7>")
        assert not matcher.consume_token(sound)
    finally:
        compiler.close()
