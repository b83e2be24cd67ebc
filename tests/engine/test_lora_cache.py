"""Which adapters stay in memory, within how much of it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from hugging_llama.engine.lora import cache as caching
from hugging_llama.engine.lora.cache import AdapterCache
from hugging_llama.engine.lora.files import AdapterFiles
from hugging_llama.engine.lora.layers import AdaptedLayers
from hugging_llama.engine.sequence import SequenceStatus
from hugging_llama.errors import InsufficientMemoryError, ModelLoadError
from tests.engine.adapters import make_adapter
from tests.engine.harness import make_sequence
from tests.engine.tiny_models import make_model


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


@pytest.fixture
def folders(model: PreTrainedModel, tmp_path: Path) -> list[str]:
    return [str(make_adapter(tmp_path / str(i), model, ("q_proj", "o_proj"), seed=i)) for i in range(4)]


def size_of(model: PreTrainedModel, folder: str) -> int:
    return AdapterCache(model, budget_bytes=2**30).take(folder).num_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_size_is_what_the_factors_take(dtype: torch.dtype, tmp_path: Path) -> None:
    model = make_model("llama", dtype=dtype)
    adapter = AdapterCache(model, budget_bytes=2**30).take(str(make_adapter(tmp_path, model, rank=5)))
    tensors = [
        tensor
        for factors in adapter.factors.values()
        for name in factors.__slots__
        if isinstance(tensor := getattr(factors, name), torch.Tensor) and name != "parts"
    ]
    packed = sum(getattr(factors, "num_bytes", 0) for factors in adapter.factors.values())
    assert adapter.num_bytes == packed + sum(tensor.nbytes for tensor in tensors) > 0


def test_the_adapter_used_longest_ago_leaves(model: PreTrainedModel, folders: list[str]) -> None:
    size = size_of(model, folders[0])
    cache = AdapterCache(model, budget_bytes=2 * size)
    first, second = cache.take(folders[0]), cache.take(folders[1])
    assert cache.take(folders[0]) is first
    assert cache.size_bytes == 2 * size
    cache.take(folders[2])
    assert cache.size_bytes == 2 * size
    assert cache.take(folders[0]) is first
    assert cache.take(folders[1]) is not second


def test_what_a_sequence_uses_stays_until_it_has_ended(model: PreTrainedModel, folders: list[str]) -> None:
    size = size_of(model, folders[0])
    cache = AdapterCache(model, budget_bytes=2 * size)
    users = [make_sequence(i, [5]) for i in range(2)]
    first = cache.take(folders[0], users[0])
    cache.take(folders[1], users[1])
    with pytest.raises(InsufficientMemoryError, match=r"more memory \(0\.0 MiB\) than there is for adapters") as caught:
        cache.take(folders[2])
    assert caught.value.facts == {"need_bytes": size, "free_bytes": 0}
    users[1].status = SequenceStatus.FINISHED
    cache.take(folders[2])
    assert cache.take(folders[0]) is first
    # one that was never submitted has no end
    del users
    third = cache.take(folders[3])
    assert cache.take(folders[3]) is third
    assert cache.take(folders[0]) is first
    cache.take(folders[1])
    cache.take(folders[2])
    assert cache.take(folders[0]) is not first


def test_one_that_is_larger_than_all_room_sends_nobody_away(
    model: PreTrainedModel, folders: list[str], tmp_path: Path
) -> None:
    size = size_of(model, folders[0])
    cache = AdapterCache(model, budget_bytes=2 * size)
    first = cache.take(folders[0])
    large = str(make_adapter(tmp_path / "large", model, ("q_proj", "o_proj"), rank=40))
    with pytest.raises(InsufficientMemoryError) as caught:
        cache.take(large)
    assert caught.value.facts == {"need_bytes": 10 * size, "free_bytes": 2 * size}
    assert cache.take(folders[0]) is first


def test_the_devices_own_memory_counts(
    model: PreTrainedModel, folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = size_of(model, folders[0])
    cache = AdapterCache(model, budget_bytes=2**30)
    monkeypatch.setattr(caching, "free_bytes", lambda device: size - 1)
    with pytest.raises(InsufficientMemoryError) as caught:
        cache.take(folders[0])
    assert caught.value.facts == {"need_bytes": size, "free_bytes": size - 1}


def test_without_a_budget_a_share_of_the_free_memory(
    model: PreTrainedModel, folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = size_of(model, folders[0])
    monkeypatch.setattr(caching, "free_bytes", lambda device: 4 * size)
    cache = AdapterCache(model, budget_bytes=0)
    first = cache.take(folders[0])
    cache.take(folders[1])
    assert cache.size_bytes == size
    assert cache.take(folders[0]) is not first


def test_several_who_ask_at_once_share_one_load(model: PreTrainedModel, folders: list[str]) -> None:
    cache = AdapterCache(model, budget_bytes=2**30)
    barrier = threading.Barrier(4)

    def take(_: int) -> int:
        barrier.wait()
        return id(cache.take(folders[0]))

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(take, range(4)))) == 1


def test_the_size_can_be_asked_for_while_one_loads(
    model: PreTrainedModel, folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = AdapterCache(model, budget_bytes=2**30)
    is_loading, may_go = threading.Event(), threading.Event()
    load = AdaptedLayers.load

    def slow(layers: AdaptedLayers, files: AdapterFiles, key: str) -> object:
        is_loading.set()
        assert may_go.wait(60)
        return load(layers, files, key)

    monkeypatch.setattr(AdaptedLayers, "load", slow)
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(cache.take, folders[0])
        assert is_loading.wait(60)
        assert cache.size_bytes == 0
        may_go.set()
        assert cache.size_bytes in (0, taken.result().num_bytes)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("out of memory"), InsufficientMemoryError),
        (RuntimeError("/some/path is odd"), ModelLoadError),
    ],
)
def test_what_goes_wrong_in_a_load_is_told_without_its_details(
    model: PreTrainedModel,
    folders: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: type[Exception],
) -> None:
    cache = AdapterCache(model, budget_bytes=2**30)

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(AdaptedLayers, "load", fails)
        with pytest.raises(expected) as caught:
            cache.take(folders[0])
    assert "/" not in str(caught.value)
    assert cache.take(folders[0]).factors, "a failure is not remembered"
