"""More text than is tokenised at once is refused before anything is made of it, wherever it comes from."""

import queue
import threading
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers

from hugging_llama.engine import memory, pooling_tokens
from hugging_llama.engine.chat_format import chat_format
from hugging_llama.engine.pooling_tokens import PoolingTokenizer
from hugging_llama.engine.prompt import PromptRenderer
from hugging_llama.engine.request_weight import LONG
from hugging_llama.engine.template_process import TemplateProcess
from hugging_llama.engine.text_limit import TextLimit
from hugging_llama.errors import TextTooLongError
from hugging_llama.neutral.messages import Message, Tool, ToolCall
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import ChatPrompt, GenerateRequest, InsertPrompt, Prompt, TextPrompt, TokensPrompt
from tests.engine.checkpoints import byte_tokenizer, piece_tokenizer
from tests.engine.classifier_files import make_cross_encoder
from tests.engine.clients import DEMO_REF, EMBED_REF, WAIT_S, Clients

LIMIT = 8 * 2**20
HALF = "a" * (LIMIT // 2)
REF = ModelRef(name="m", path="m")


def user(text: str, **more: Any) -> Message:
    return Message(role="user", content=text, **more)


LONG_PROMPTS = [
    TextPrompt(text=HALF * 2 + "a"),
    ChatPrompt(messages=(user(HALF), user(HALF), user("a"))),
    ChatPrompt(messages=(user(HALF), user("a", tool_calls=(ToolCall(id="1", name="f", arguments={HALF: [HALF]}),)))),
    ChatPrompt(messages=(user(HALF, thinking=HALF), user("a"))),
    ChatPrompt(messages=(user(HALF),), tools=(Tool(name="f", description=HALF),)),
    InsertPrompt(prefix=HALF, suffix=HALF + "a"),
    ChatPrompt(messages=(user("a"),), template="{{ 'a' * 9000000 }}"),
]
_IDS = ["text", "messages", "arguments", "thinking", "tools", "insert", "what a template writes"]


@pytest.mark.parametrize("prompt", LONG_PROMPTS, ids=_IDS)
def test_prompts(clients: Clients, prompt: Prompt) -> None:
    for answer in (clients.answers(clients.send("", prompt=prompt))[-1], clients.tokenize(DEMO_REF, prompt)):
        assert isinstance(answer, TextTooLongError)
        assert answer.facts["num_bytes"] > answer.facts["limit"] == LIMIT
        assert answer.message == (
            f"the text has {answer.facts['num_bytes']} bytes, and at most {LIMIT} are read at once; send less"
        )


def test_a_text_alone(clients: Clients) -> None:
    for ref in (DEMO_REF, EMBED_REF):
        for special in (True, False):
            answer = clients.tokenize(ref, TextPrompt(text=HALF * 2 + "a"), add_special_tokens=special)
            assert isinstance(answer, TextTooLongError)


def test_inputs(clients: Clients, tmp_path: Path) -> None:
    assert isinstance(clients.embed(EMBED_REF, "short", HALF * 2 + "a"), TextTooLongError)
    reranker = ModelRef(name="r", path=str(make_cross_encoder(tmp_path / "r")))
    assert isinstance(clients.classify(reranker, ("a", "b"), (HALF, HALF + "a")), TextTooLongError)


def test_many_inputs_are_as_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large they are together: they are tokenised in portions."""
    tokenizer: Any = byte_tokenizer()
    config: Any = type("Config", (), {"get_text_config": lambda self: self, "vocab_size": None})()
    found = PoolingTokenizer(tokenizer, None, config)
    inputs: list[Any] = ["a" * length for length in (1, 40, 3, 99, 1, 1)] + [("b", "c" * 30), (5, 6), "d"]
    whole = found.rows(inputs, limit=64, truncate=True)
    sizes: list[int] = []
    plain_rows = found._plain_rows

    def counted(portion: Any, *args: Any) -> Any:
        sizes.append(len(portion))
        return plain_rows(portion, *args)

    monkeypatch.setattr(pooling_tokens, "_PORTION", 40)
    monkeypatch.setattr(found, "_plain_rows", counted)
    assert found.rows(inputs, limit=64, truncate=True) == whole
    assert sizes == [2, 2, 4]


def test_bytes_are_counted() -> None:
    limit = TextLimit(byte_tokenizer())
    limit.check(["é" * (LIMIT // 2), TokensPrompt(token_ids=(7,) * 1000)])
    with pytest.raises(TextTooLongError):
        limit.check(["é" * (LIMIT // 2), "a"])
    with pytest.raises(TextTooLongError):
        limit.check("\ud800" * (LIMIT // 2))


def test_a_long_context_holds_more() -> None:
    tokenizer = byte_tokenizer()
    assert [TextLimit(tokenizer, tokens).max_bytes for tokens in (0, 2**19, 2**20, 2**28)] == [
        LIMIT, LIMIT, 2 * LIMIT, 4 * LIMIT,
    ]  # fmt: skip


def test_what_is_lengthened_gets_less() -> None:
    tokenizer: Any = piece_tokenizer()
    assert TextLimit(tokenizer).max_bytes == LIMIT
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("a", "b" * 16)])
    assert TextLimit(tokenizer).max_bytes == LIMIT // 4


def renderer(tokenizer: Any) -> PromptRenderer:
    return PromptRenderer(
        tokenizer, chat_format(tokenizer), vocabulary_size=len(tokenizer), templates=TemplateProcess()
    )


def test_a_number_hides_no_text() -> None:
    with pytest.raises(TextTooLongError):
        TextLimit(byte_tokenizer()).check({"enum": [1, "a" * (LIMIT + 1)]})


def test_a_models_own_template_that_repeats_what_is_said() -> None:
    found = renderer(byte_tokenizer(template="{{ messages[0].content * 1000 }}"))
    request = GenerateRequest(model=REF, prompt=ChatPrompt(messages=(user("a" * 9000),)))
    with pytest.raises(TextTooLongError, match="the text has 9000000 bytes"):
        found.render(request, context_length=100)


def test_memory_of_a_long_text_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    trims: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(memory, "trim", lambda: trims.put(threading.current_thread().name))
    clients = Clients()
    try:
        clients.load(DEMO_REF)
        assert trims.get_nowait() == "engine-load"
        clients.tokenize(DEMO_REF, TextPrompt(text="short"))
        clients.tokenize(DEMO_REF, TextPrompt(text="a " * (LONG // 2)))
        assert trims.get(timeout=WAIT_S).startswith("engine-slow-intake")
        assert trims.empty()
    finally:
        clients.engine.close()
