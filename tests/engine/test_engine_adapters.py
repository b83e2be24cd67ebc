"""Adapters through the engine: one model in memory, several ways to use it."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from hugging_llama.engine.lora.files import AdapterFiles
from hugging_llama.engine.lora.layers import AdaptedLayers
from hugging_llama.errors import InsufficientMemoryError, InvalidRequestError, ModelLoadError
from hugging_llama.neutral.events import Embeddings, Finished, FinishReason, Loaded
from hugging_llama.neutral.models import ModelRef
from tests.engine.adapters import make_adapter, merged
from tests.engine.checkpoints import DEMO, edit_json
from tests.engine.clients import DEMO_REF, EMBED_REF, SETTINGS, WAIT_S, Clients

TEXT = "What can you tell me about the sea?"


@pytest.fixture(scope="module")
def model() -> Any:
    found: Any = AutoModelForCausalLM.from_pretrained(DEMO, dtype="float32")
    return found.eval()


@pytest.fixture(scope="module")
def refs(model: Any, tmp_path_factory: pytest.TempPathFactory) -> list[ModelRef]:
    """The demo model with two adapters."""
    folder = tmp_path_factory.mktemp("adapters")
    return [
        with_adapter(make_adapter(folder / str(seed), model, seed=seed, rank=8, size=0.2), f"adapted-{seed}")
        for seed in (1, 2)
    ]


@pytest.fixture
def clients() -> Iterator[Clients]:
    found = Clients()
    yield found
    found.engine.close()


def with_adapter(folder: Path, name: str) -> ModelRef:
    return dataclasses.replace(DEMO_REF, name=name, adapter=str(folder))


def test_texts_are_those_of_merged_models(clients: Clients, model: Any, refs: list[ModelRef], tmp_path: Path) -> None:
    keys = [clients.send(TEXT, ref) for ref in (*refs, DEMO_REF, refs[0])]
    texts = [clients.text(key) for key in keys]
    assert clients.names == ["adapted-1"], "one copy of the weights"
    assert texts[0] == texts[3]
    assert len(set(texts)) == 3
    for i, ref in enumerate(refs):
        folder = tmp_path / str(i)
        merged(model, Path(ref.adapter)).save_pretrained(folder)
        AutoTokenizer.from_pretrained(DEMO).save_pretrained(folder)
        assert clients.text(clients.send(TEXT, ModelRef(name=f"merged-{i}", path=str(folder)))) == texts[i]
    assert clients.text(clients.send(TEXT, refs[1], sampling={"num_beams": 3})) == clients.text(
        clients.send(TEXT, ModelRef(name="merged-1", path=str(tmp_path / "1")), sampling={"num_beams": 3})
    )


def test_a_load_brings_the_adapter_and_its_size_is_shown(clients: Clients, refs: list[ModelRef]) -> None:
    plain = clients.load(DEMO_REF)
    first, second, again = (clients.load(ref) for ref in (refs[0], refs[1], refs[0]))
    assert isinstance(plain, Loaded)
    assert isinstance(first, Loaded)
    assert isinstance(second, Loaded)
    assert isinstance(again, Loaded)
    size = first.model.size_bytes - plain.model.size_bytes
    assert size > 0
    assert second.model.size_bytes == again.model.size_bytes == plain.model.size_bytes + 2 * size
    (row,) = clients.engine.loaded()
    assert row.size_bytes == again.model.size_bytes


def test_a_bad_adapter_fails_its_request_alone(
    clients: Clients, model: Any, refs: list[ModelRef], tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "bad", model)
    edit_json(folder / "adapter_config.json", use_dora=True)
    bad = with_adapter(folder, "bad")
    expected = clients.text(clients.send(TEXT, refs[0]))
    keys = [clients.send(TEXT, ref) for ref in (refs[0], bad, with_adapter(tmp_path / "gone", "gone"), refs[0])]
    answers = [clients.answers(key)[-1] for key in keys]
    assert [type(answer) for answer in answers] == [Finished, ModelLoadError, ModelLoadError, Finished]
    assert clients.text(keys[0]) == clients.text(keys[3]) == expected
    load = clients.load(bad)
    assert isinstance(load, ModelLoadError)
    assert "use_dora" in load.message


def test_a_slow_adapter_holds_up_nobody_else(
    clients: Clients, refs: list[ModelRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_loading, may_go = threading.Event(), threading.Event()
    load = AdaptedLayers.load

    def slow(layers: AdaptedLayers, files: AdapterFiles, key: str) -> object:
        is_loading.set()
        assert may_go.wait(WAIT_S)
        return load(layers, files, key)

    expected = clients.text(clients.send(TEXT, refs[1]))
    monkeypatch.setattr(AdaptedLayers, "load", slow)
    waiting = [clients.send(TEXT, refs[0]) for _ in range(8)]
    assert is_loading.wait(WAIT_S)
    assert isinstance(clients.answers(clients.send(TEXT))[-1], Finished)
    assert clients.text(clients.send(TEXT, refs[1])) == expected
    assert clients.engine.loaded()
    clients.engine.cancel(waiting[0])
    assert not any(clients.has_ended(key) for key in waiting[1:])
    may_go.set()
    ends = [clients.answers(key)[-1] for key in waiting]
    assert isinstance(ends[0], Finished)
    assert ends[0].reason is FinishReason.ABORT
    assert all(isinstance(end, Finished) for end in ends)


def test_a_bad_adapter_does_not_keep_its_model_from_loading(clients: Clients, tmp_path: Path) -> None:
    keys = [clients.send(TEXT, ref) for ref in (with_adapter(tmp_path / "gone", "gone"), DEMO_REF)]
    assert [type(clients.answers(key)[-1]) for key in keys] == [ModelLoadError, Finished]


def test_an_adapter_beyond_the_budget_is_refused_with_both_numbers(refs: list[ModelRef]) -> None:
    clients = Clients(dataclasses.replace(SETTINGS, adapter_cache_bytes=1000))
    answer = clients.answers(clients.send(TEXT, refs[0]))[-1]
    assert isinstance(answer, InsufficientMemoryError)
    assert answer.facts["free_bytes"] == 1000 < answer.facts["need_bytes"]
    assert isinstance(clients.answers(clients.send(TEXT))[-1], Finished)
    clients.engine.close()


@pytest.mark.parametrize("texts", [("a word",), ()])
def test_embedding_models_take_none(clients: Clients, refs: list[ModelRef], texts: tuple[str, ...]) -> None:
    ref = dataclasses.replace(EMBED_REF, adapter=refs[0].adapter)
    for answer in (clients.embed(ref, *texts), clients.load(ref)):
        assert isinstance(answer, InvalidRequestError)
        assert "does not write" in answer.message
    assert isinstance(clients.embed(EMBED_REF, *texts), Embeddings)


def test_an_unload_takes_the_adapters_along(clients: Clients, refs: list[ModelRef]) -> None:
    clients.load(refs[0])
    clients.engine.unload(refs[1])
    assert isinstance(clients.load(DEMO_REF), Loaded)
    (row,) = clients.engine.loaded()
    plain = row.size_bytes
    assert isinstance(clients.load(refs[0]), Loaded)
    (row,) = clients.engine.loaded()
    assert row.size_bytes > plain
