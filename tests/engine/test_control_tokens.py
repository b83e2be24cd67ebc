"""Control tokens in what callers say: found as a regular expression finds them, however many there are."""

import random
import re
import time
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers.utils import chat_template_utils

from hugging_llama.engine import control_tokens
from hugging_llama.engine.control_tokens import ControlTokens, marked_ids
from tests.engine.checkpoints import byte_tokenizer, piece_tokenizer

TEXTS = ("aa", "aaa", "ab", "<|x|>", "<|x", "é\U0001f600", "a b", "\n\n")


def with_tokens(texts: tuple[str, ...], *, special: bool = True) -> Any:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([AddedToken(text, special=special) for text in texts])
    return tokenizer


@pytest.mark.parametrize("most_alternatives", [0, 1000])
@pytest.mark.parametrize("seed", range(20))
def test_the_longest_from_the_left(seed: int, most_alternatives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_tokens, "_MOST_ALTERNATIVES", most_alternatives)
    chance = random.Random(seed)
    text = "".join(chance.choice([*TEXTS, "a", "b", "<", "é", " ", "\ud83d", "\U0001f600"]) for _ in range(40))
    every = sorted((*TEXTS, *byte_tokenizer().all_special_tokens), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, every)))
    tokens = ControlTokens(with_tokens(TEXTS), None)
    assert tokens.defused(text) == pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    assert tokens.marked([{"a": text}, 5, ("", text)]) == chat_template_utils.mark_control_tokens(
        [{"a": text}, 5, ("", text)], pattern
    )


@pytest.mark.parametrize("seed", range(20))
def test_marked_texts_are_read_as_transformers_reads_them(seed: int) -> None:
    """With marks that a template has torn apart, too."""
    chance = random.Random(seed)
    marks = ("\U000f0000", "\U000f0001")
    written = [*TEXTS, "a", *marks, *(text.join(marks) for text in (*TEXTS, "zz"))]
    text = "".join(chance.choice(written) for _ in range(30))
    for tokenizer in (with_tokens(TEXTS), with_tokens(TEXTS, special=False), piece_tokenizer()):
        assert marked_ids(tokenizer, text) == chat_template_utils.encode_marked_chat(tokenizer, text)


def test_tens_of_thousands_are_found_at_once() -> None:
    """Regular expressions take twice the time that there is."""
    tokenizer = with_tokens(tuple(f"<sound {number}>" for number in range(65_536)))
    text = "<sound " * 70_000 + "<sound 65535>" * 100
    began_at = time.process_time()
    marked = ControlTokens(tokenizer, None).marked(text)
    assert marked.count("\U000f0000") == 100
    ids = marked_ids(tokenizer, marked)
    assert time.process_time() - began_at < 8
    assert tokenizer.convert_tokens_to_ids("<sound 65535>") not in ids
    assert tokenizer.decode(ids) == text
