"""The whole engine without its socket: real models, several at once, and what they answer."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from hugging_llama.errors import (
    ContextLengthError,
    GenerationError,
    GrammarError,
    InvalidRequestError,
    ModelLoadError,
    UnsupportedCapabilityError,
)
from hugging_llama.neutral.events import Embeddings, Finished, FinishReason, Loaded
from hugging_llama.neutral.formats import JsonObject
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import (
    ChatPrompt,
    TextPrompt,
)
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import byte_tokenizer, make_checkpoint
from tests.engine.clients import DEMO_REF, EMBED_REF, SETTINGS, Clients


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    found = Clients()
    yield found
    found.engine.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    folder = make_checkpoint(
        tmp_path_factory.mktemp("models") / "tiny", byte_tokenizer(markers=("<think>", "</think>"))
    )
    return ModelRef(name="tiny", path=str(folder), digest="d" * 64)


def test_a_tokenizer_that_fails_on_a_text(clients: Clients, tmp_path: Path) -> None:
    """Its expression tries for ever, until the library panics."""
    folder = make_checkpoint(tmp_path / "model")
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, tokenizer["pre_tokenizer"]]}
    file.write_text(json.dumps(tokenizer))
    ref = ModelRef(name="panics", path=str(folder), digest="e" * 64)
    for answer in (
        clients.answers(clients.send("a" * 30 + "b", ref))[-1],
        clients.tokenize(ref, TextPrompt(text="a" * 30 + "b")),
    ):
        assert isinstance(answer, GenerationError)
        assert answer.message == "the model's tokenizer failed on this text"
    assert isinstance(clients.answers(clients.send("b", ref))[-1], Finished)


def test_load_tells_what_was_loaded(clients: Clients, tiny: ModelRef) -> None:
    answer = clients.load(tiny)
    assert isinstance(answer, Loaded)
    assert answer.model.name == "tiny"
    assert answer.model.digest == "d" * 64
    assert answer.model.size_bytes > 0
    assert answer.model.size_vram_bytes == 0
    assert answer.model.context_length == 512
    assert answer.model.device == "cpu"
    assert answer.model.dtype == "float32"
    assert answer.load_ns > 0


def test_a_generation(clients: Clients) -> None:
    key = clients.send("What is the capital of France?", sampling={"max_tokens": 12})
    assert clients.text(key)
    end = clients.answers(key)[-1]
    assert isinstance(end, Finished)
    assert end.usage.num_prompt_tokens > 5
    assert 1 <= end.usage.num_output_tokens <= 12
    assert end.usage.load_ns > 0
    assert end.context == ()


def test_the_same_request_gives_the_same_text_in_company(clients: Clients, tiny: ModelRef) -> None:
    alone = clients.text(clients.send("one two", tiny))
    keys = [clients.send("one two", tiny) for _ in range(4)]
    others = [clients.send(f"number {number}", tiny, sampling={"temperature": 1.0}) for number in range(4)]
    assert [clients.text(key) for key in keys] == [alone] * 4
    assert all(clients.answers(key) for key in others)


def test_context_comes_back_and_goes_in_again(clients: Clients, tiny: ModelRef) -> None:
    first = clients.answers(clients.send("one", tiny, return_context=True))[-1]
    assert isinstance(first, Finished)
    assert len(first.context) == first.usage.num_prompt_tokens + first.usage.num_output_tokens
    prompt = ChatPrompt(messages=(Message(role="user", content="two"),), context=first.context)
    second = clients.answers(clients.send("", tiny, prompt=prompt, return_context=True))[-1]
    assert isinstance(second, Finished)
    assert second.context[: len(first.context)] == first.context
    raw = clients.answers(clients.send("", tiny, prompt=TextPrompt(text="x"), return_context=True))[-1]
    assert isinstance(raw, Finished)
    assert len(raw.context) == raw.usage.num_prompt_tokens + raw.usage.num_output_tokens


@pytest.mark.parametrize("seed", range(2))
def test_json_mode_at_a_high_temperature(clients: Clients, tiny: ModelRef, seed: int) -> None:
    """A random model would go on for ever within one string, so what counts is that it stays JSON up to its end."""
    sampling = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "seed": seed, "max_tokens": 200}
    key = clients.send("x", tiny, format=JsonObject(), sampling=sampling)
    text = clients.text(key)
    end = clients.answers(key)[-1]
    assert isinstance(end, Finished)
    assert text.startswith("{")
    if end.reason is FinishReason.STOP:
        assert isinstance(json.loads(text), dict)


def test_json_mode_on_the_demo_model(clients: Clients) -> None:
    keys = [
        clients.send(
            f"Answer in JSON: {number}",
            format=JsonObject(),
            sampling={"temperature": 1.5, "seed": number, "max_tokens": 120, "top_k": 0, "top_p": 1.0},
        )
        for number in range(3)
    ]
    for key in keys:
        text = clients.text(key)
        end = clients.answers(key)[-1]
        assert isinstance(end, Finished)
        assert text.startswith("{")
        assert end.reason is FinishReason.LENGTH or isinstance(json.loads(text), dict)


def test_json_mode_needs_a_tokenizer_that_can_be_constrained(
    clients: Clients, tiny: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise GrammarError("not this tokenizer")

    monkeypatch.setattr("hugging_llama.engine.served_model.answer_mask", refuse)
    with pytest.raises(GrammarError):
        clients.text(clients.send("x", tiny, format=JsonObject()))


def test_embeddings(clients: Clients) -> None:
    answer = clients.embed(EMBED_REF, "hello", "world")
    assert isinstance(answer, Embeddings)
    assert [len(vector) for vector in answer.vectors] == [384, 384]
    assert answer.num_prompt_tokens == 6
    assert answer.load_ns > 0
    empty = clients.embed(EMBED_REF)
    assert isinstance(empty, Embeddings)
    assert empty.vectors == ()


def test_what_a_model_can_not_do(clients: Clients) -> None:
    answer = clients.embed(DEMO_REF, "hello")
    assert isinstance(answer, UnsupportedCapabilityError)
    assert answer.facts == {"model": "demo", "capabilities": ["embedding"]}
    with pytest.raises(UnsupportedCapabilityError):
        clients.text(clients.send("hello", EMBED_REF))


def test_errors_of_the_request(clients: Clients, tiny: ModelRef) -> None:
    with pytest.raises(ContextLengthError):
        clients.text(clients.send("x" * 600, tiny, truncate=False))
    with pytest.raises(InvalidRequestError):
        clients.text(clients.send("", tiny, prompt=TextPrompt(text="")))
    with pytest.raises(ModelLoadError):
        clients.text(clients.send("x", ModelRef(name="gone", path="/nowhere")))
    assert isinstance(clients.embed(EMBED_REF, "long " * 1000, truncate=False), ContextLengthError)


def test_context_length_is_clamped(clients: Clients, tiny: ModelRef) -> None:
    key = clients.send("x" * 2000, tiny, context_length=100_000)
    end = clients.answers(key)[-1]
    assert isinstance(end, Finished)
    assert end.usage.num_prompt_tokens < 512


def test_what_memory_holds_bounds_the_context(tiny: ModelRef) -> None:
    clients = Clients(Settings(device="cpu", dtype="float32", kv_cache_bytes=384 * 256))
    answer = clients.load(tiny)
    assert isinstance(answer, Loaded)
    assert 16 <= answer.model.context_length < 512
    end = clients.answers(clients.send("x" * 2000, tiny))[-1]
    assert isinstance(end, Finished)
    assert end.usage.num_prompt_tokens < answer.model.context_length
    clients.engine.close()


def test_a_model_that_can_not_be_batched(clients: Clients, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    with torch.random.fork_rng(devices=[]):
        config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=256, eos_token_id=258)
        GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ref = ModelRef(name="gpt2", path=str(tmp_path))
    keys = [clients.send("x", ref, format=output_format) for output_format in (None, JsonObject()) for _ in range(2)]
    texts = [clients.text(key) for key in keys]
    assert texts[0] == texts[1]
    assert texts[2].startswith("{")


def test_ps_counts_the_cache_and_shows_the_context(tiny: ModelRef) -> None:
    clients = Clients()
    answer = clients.load(tiny, context_length=64)
    assert isinstance(answer, Loaded)
    assert answer.model.context_length == 64
    clients.text(clients.send("x", tiny, context_length=128))
    (row,) = clients.engine.loaded()
    assert row.context_length == 128
    retained = clients.engine.status().kv_retained_tokens
    assert retained >= 8
    # 16 slots of 256 tokens, and what is kept; 2 layers, 2 heads, keys and values of 8 float32 numbers
    assert row.size_bytes - answer.model.size_bytes == (16 * 256 + retained) * 2 * 2 * 2 * 8 * 4
    clients.engine.close()


def test_quantisations_of_one_model_are_models_of_their_own(tiny: ModelRef) -> None:
    clients = Clients(dataclasses.replace(SETTINGS, quantize="int8"))
    exact, small = (dataclasses.replace(tiny, quantization=quantization) for quantization in ("none", "int4"))
    for ref in (tiny, dataclasses.replace(tiny, quantization="int8"), exact, small):
        answer = clients.load(ref)
        assert isinstance(answer, Loaded)
        assert answer.model.quantization == (ref.quantization or "int8")
        assert clients.text(clients.send("x", ref)) is not None
    shown = {row.quantization: (row.linear.split()[0], row.size_bytes) for row in clients.engine.loaded()}
    assert len(clients.engine.loaded()) == len(shown) == 3
    assert [shown[name][0] for name in ("int8", "int4")] == ["int8", "int4"]
    assert shown["int8"][1] < shown["none"][1]
    failure = clients.load(dataclasses.replace(tiny, quantization="int3"))
    assert isinstance(failure, ModelLoadError)
    assert "int3" in failure.message
    assert "int8" in failure.message
    for ref in (tiny, exact, small):  # in no instant is exact the only one that stays
        clients.engine.unload(ref)
    clients.load(exact)  # waits for the unloads before it
    assert [row.quantization for row in clients.engine.loaded()] == ["none"]
    clients.engine.close()


def test_counters_never_go_back(tiny: ModelRef) -> None:
    clients = Clients()
    clients.text(clients.send("x", tiny))
    before, seen = clients.engine.status().output_tokens_total, list[int]()
    give_back = clients.engine._registry._unload

    def watched(model: Any) -> None:
        seen.append(clients.engine.status().output_tokens_total)
        give_back(model)
        seen.append(clients.engine.status().output_tokens_total)

    clients.engine._registry._unload = watched
    clients.engine.unload(tiny)
    clients.load(tiny)  # waits for the unload before it
    assert seen == [before, before]
    clients.engine.close()


def test_status(clients: Clients) -> None:
    status = clients.engine.status()
    assert status.device == "cpu"
    assert status.pid > 0
    assert status.num_loaded == len(clients.engine.loaded())
    assert status.num_running == status.num_waiting == 0
