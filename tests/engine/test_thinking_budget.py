"""The demo model's reasoning, ended by a budget: an answer follows, and nothing of the reasoning is in it."""

from collections.abc import Iterator

import pytest

from hugging_llama.ipc.facade import Key
from hugging_llama.neutral.events import Finished, TextDelta, ThinkingDelta
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.requests import ChatPrompt
from tests.engine.clients import Clients

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
GREETING = "Hello! I am the Hugging Llama demo model. How can I help?"


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    found = Clients()
    yield found
    found.engine.close()


def asked(clients: Clients, question: str, budget: int) -> Key:
    prompt = ChatPrompt(messages=(Message(role="user", content=question),))
    return clients.send("", prompt=prompt, sampling={"max_tokens": 100, "max_thinking_tokens": budget})


def read(clients: Clients, key: Key) -> tuple[str, str, int]:
    """Reasoning, answer, and tokens of reasoning."""
    events = clients.answers(key)
    end = events[-1]
    assert isinstance(end, Finished)
    thought = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
    answer = "".join(event.text for event in events if isinstance(event, TextDelta))
    return thought, answer, end.usage.num_thinking_tokens


@pytest.mark.parametrize(
    ("question", "budget", "thought", "answer"),
    [
        (FRANCE, 0, "", PARIS),
        (FRANCE, 3, "The user", PARIS),
        (FRANCE, 100, "The user asks for the capital of France. I know it: Paris.", PARIS),
        ("Repeat: sky", 6, "I repeat the text.", "sky"),
        ("What is 2 + 3?", 3, "ones", "2 + 3 = 5"),
        ("Hello!", 3, "The user", GREETING),
        ("Hello!", 4, "The user gre", GREETING),
    ],
)
def test_an_answer_follows(clients: Clients, question: str, budget: int, thought: str, answer: str) -> None:
    found = read(clients, asked(clients, question, budget))
    assert (found[0], found[1].strip()) == (thought, answer)


@pytest.mark.parametrize("question", [FRANCE, "Repeat: sky", "Hello!", "Name a color."])
def test_no_end_of_reasoning_is_in_an_answer(clients: Clients, question: str) -> None:
    """However badly the cut suits the model: it may end its reasoning once more."""
    for budget, key in [(budget, asked(clients, question, budget)) for budget in range(12)]:
        thought, answer, num_tokens = read(clients, key)
        assert "think>" not in thought + answer
        assert answer.strip()
        # the tags and their line breaks are counted, too
        assert num_tokens <= budget + 4
