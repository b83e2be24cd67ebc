"""One caller's texts of megabytes, and templates, hold up nobody else's request."""

import pytest

from hugging_llama.engine.request_weight import LONG, is_slow
from hugging_llama.neutral.messages import Message, Tool
from hugging_llama.neutral.requests import (
    ChatPrompt,
    EmbedRequest,
    GenerateRequest,
    Prompt,
    TextPrompt,
    TokenizeRequest,
    TokensPrompt,
)
from tests.engine.clients import DEMO_REF, Clients

NUM_LONG = 8
LOOP = "{% for a in range(9999) %}{% for b in range(99999) %}{% set c = a %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "prompt", [TextPrompt(text="a " * LONG), ChatPrompt(messages=(Message(role="user", content="a"),), template=LOOP)]
)
def test_a_short_prompt_does_not_wait_for_long_ones(clients: Clients, prompt: Prompt) -> None:
    keys = [clients.key() for _ in range(NUM_LONG)]
    for key in keys:
        clients.engine.tokenize(key, TokenizeRequest(model=DEMO_REF, prompt=prompt))
    mine = clients.key()
    clients.engine.tokenize(mine, TokenizeRequest(model=DEMO_REF, prompt=TextPrompt(text="hi")))
    assert len(clients.answers(mine)) == 1
    num_ended = sum(clients.has_ended(key) for key in keys)
    for key in keys:
        clients.engine.cancel(key)
    # four were prepared at once before, and a model's tokenizer served one after the other
    assert num_ended <= 1


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        (TextPrompt(text="a" * (LONG - 100)), False),
        (TextPrompt(text="a" * LONG), True),
        (TokensPrompt(token_ids=(1,) * 10_000), False),
        (ChatPrompt(messages=(Message(role="user", content="a" * 1000),) * 100), False),
        (ChatPrompt(messages=(Message(role="user", content="a" * 1000),) * 300), True),
        (ChatPrompt(messages=(Message(role="user", content="a"),) * 10_000), True),
        (ChatPrompt(messages=(Message(role="user", content="a"),), template="{{ messages }}"), True),
        (ChatPrompt(messages=(), tools=(Tool(name="a", parameters={"enum": ["a" * 100] * 3000}),)), True),
    ],
)
def test_what_is_slow(prompt: Prompt, wanted: bool) -> None:
    assert is_slow(GenerateRequest(model=DEMO_REF, prompt=prompt)) == wanted
    assert is_slow(TokenizeRequest(model=DEMO_REF, prompt=prompt)) == wanted


@pytest.mark.parametrize(("inputs", "wanted"), [(("a" * 100,) * 1000, False), (("a" * 100,) * 3000, True)])
def test_many_texts_are_one_long_one(inputs: tuple[str, ...], wanted: bool) -> None:
    assert is_slow(EmbedRequest(model=DEMO_REF, inputs=inputs)) == wanted
