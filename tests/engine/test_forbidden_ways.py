"""Options that forbid tokens, beside a format that needs some: what is left comes, or the options are named."""

from collections.abc import Iterator
from typing import Any

import pytest
from transformers import AutoTokenizer

from hugging_llama.errors import GenerationError, InvalidRequestError
from hugging_llama.neutral.formats import Choice, JsonObject, JsonSchema, OutputFormat, Regex
from tests.engine.checkpoints import DEMO
from tests.engine.clients import Clients

YES_OR_NO = JsonSchema('{"enum":["yes","no"]}')


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    found = Clients()
    yield found
    found.engine.close()


def ids_of(text: str) -> tuple[int, ...]:
    tokenizer: Any = AutoTokenizer.from_pretrained(DEMO)
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def said(clients: Clients, format: OutputFormat | None, **sampling: Any) -> str:
    return clients.text(clients.send("Yes or no?", format=format, sampling={"max_tokens": 60, **sampling}))


@pytest.mark.parametrize(
    ("format", "sampling", "text"),
    [
        (YES_OR_NO, {"bad_words": ("yes",)}, '"no"'),
        (YES_OR_NO, {"bad_words": ("no",)}, '"yes"'),
        (YES_OR_NO, {"suppress_tokens": ids_of("es")}, '"no"'),
        (YES_OR_NO, {"suppress_tokens": ids_of("y") + ids_of(" y")}, '"no"'),
        # the same head, and a word of many tokens
        (Choice(("Hugging Llama", "Hugging Face")), {"bad_words": (ids_of("Hugging Llama"),)}, "Hugging Face"),
        (Choice(("Hugging Llama", "Hugging Face")), {"bad_words": (ids_of("Hugging Face"),)}, "Hugging Llama"),
        (Regex("(yes|no|maybe)"), {"bad_words": ("yes", "no")}, "maybe"),
    ],
)
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_what_is_left_comes(
    clients: Clients, format: OutputFormat, sampling: dict[str, Any], text: str, temperature: float
) -> None:
    assert said(clients, format, **sampling, temperature=temperature, seed=1) == text


@pytest.mark.parametrize(
    ("format", "sampling", "words"),
    [
        (
            YES_OR_NO,
            {"bad_words": ("yes", "no")},
            "bad_words forbids all tokens with which the answer's format could go on",
        ),
        (Choice(("yes",)), {"bad_words": ("yes",)}, "bad_words forbids all"),
        (YES_OR_NO, {"suppress_tokens": tuple(range(300))}, "suppress_tokens forbids all"),
        (
            JsonObject(),
            {"suppress_tokens": tuple(range(5000)), "bad_words": ("x",)},
            "bad_words and suppress_tokens forbid all",
        ),
        (None, {"suppress_tokens": tuple(range(5000))}, "suppress_tokens forbids all tokens"),
        (Regex("a(bc){40}"), {"no_repeat_ngram_size": 2}, "no_repeat_ngram_size forbids all"),
    ],
)
def test_where_nothing_is_left_the_options_are_named(
    clients: Clients, format: OutputFormat | None, sampling: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        said(clients, format, **sampling)
    assert words in caught.value.message
    assert not isinstance(caught.value, GenerationError)


def test_text_is_free_of_bad_words_beside_a_long_format(clients: Clients) -> None:
    schema = JsonSchema(
        '{"type":"object","properties":{"name":{"type":"string","maxLength":8},"kind":{"enum":["x","y"]}}}'
    )
    found = said(clients, schema, bad_words=("x",), temperature=1.0, seed=3)
    assert "x" not in found
