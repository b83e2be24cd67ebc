"""An allocation that fails says that memory is short, wherever it fails, and decides nothing for good."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hugging_llama.engine import classification, response_template
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.kv_cache import KVCache
from hugging_llama.engine.linear import kernels, packer, speed
from hugging_llama.engine.linear.packed import Kernel
from hugging_llama.engine.linear.packer import LinearPacker
from hugging_llama.engine.load_threads import LoadThreads
from hugging_llama.engine.loader import Loader
from hugging_llama.engine.memory import is_out_of_memory
from hugging_llama.engine.native import probe
from hugging_llama.engine.outbox import as_generation_error
from hugging_llama.engine.runner import choose_runner, make_runner
from hugging_llama.errors import GenerationError, InsufficientMemoryError, ModelLoadError
from hugging_llama_config.settings import Settings
from tests.engine.classifier_files import make_classifier
from tests.engine.harness import Inbox
from tests.engine.tiny_models import make_model

SHORTAGES: list[Exception] = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=str)
def test_the_words_of_all_allocators_are_known(error: Exception) -> None:
    assert is_out_of_memory(error)
    told = as_generation_error(error)
    assert isinstance(told, InsufficientMemoryError)
    assert "not enough memory" in told.message


@pytest.mark.parametrize("text", ["CUDA error: CUBLAS_STATUS_EXECUTION_FAILED", "a shape does not fit", "memory"])
def test_other_errors_are_no_shortage(text: str) -> None:
    assert not is_out_of_memory(RuntimeError(text))
    assert isinstance(as_generation_error(RuntimeError(text)), GenerationError)


def test_a_self_test_without_memory_does_not_send_the_model_to_the_slow_runner() -> None:
    model = make_model("llama")

    def fails(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = model.model.norm.register_forward_hook(fails)
    with pytest.raises(InsufficientMemoryError, match="not enough memory to load this model"):
        choose_runner(model)
    hook.remove()
    assert choose_runner(model)[0] is not None


def test_a_classifier_tried_without_memory_is_not_said_to_bear_no_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Loader(Settings(device="cpu")).load(str(make_classifier(tmp_path)))

    def fails(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(classification.ClassificationHead, "_scores", fails)
    with pytest.raises(InsufficientMemoryError, match="not enough memory to load this model"):
        classification.ClassificationHead(checkpoint)


def test_a_self_test_whose_cache_gets_no_memory_does_not_send_the_model_to_the_slow_runner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model("llama")
    with monkeypatch.context() as patch:
        patch.setattr(KVCache, "has_memory", lambda cache, num_tokens: False)
        with pytest.raises(InsufficientMemoryError, match="not enough memory to load this model"):
            choose_runner(model)
    assert choose_runner(model)[0] is not None


def test_a_load_that_gets_one_of_its_two_threads_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def starts_no_beams(thread: threading.Thread) -> None:
        if thread.name == "engine-short-beams":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts_no_beams)
    inbox = Inbox()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        make_runner(
            make_model("llama"),
            settings=Settings(kv_cache_bytes=64 * 2**20),
            emit=inbox.emit,
            on_finished=inbox.on_finished,
            name="short",
        )
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("engine-short")]


def test_no_thread_for_a_load_is_a_shortage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fails)
    with pytest.raises(InsufficientMemoryError, match="not enough memory to load this model"):
        LoadThreads().start(lambda: None)


def _kernel() -> object:
    def pack(*args: Any) -> Any:
        raise SHORTAGES[2]

    return kernels._is_right(Kernel("short", pack), torch.float32, 1.0)


def _packing() -> object:
    def run() -> None:
        raise MemoryError

    return LinearPacker(torch.device("cpu"), "none").pack(make_model("llama"), run, "none", torch.float32)


def _family() -> object:
    def compare(random: torch.Generator) -> bool:
        raise MemoryError

    return probe._passes(probe.Family.LORA, compare)


class _ShortTokenizer:
    is_fast = True
    response_template = "{}"

    def __len__(self) -> int:
        return 1

    def __getattr__(self, name: str) -> Any:
        raise MemoryError


def _compiler() -> object:
    return GrammarCompiler(_ShortTokenizer(), width=1, eos_token_ids=[0])


@pytest.mark.parametrize("trial", [_kernel, _packing, _family, _compiler])
def test_a_trial_without_memory_tells_nothing(trial: Callable[[], object]) -> None:
    with pytest.raises((MemoryError, RuntimeError)) as raised:
        trial()
    assert is_out_of_memory(raised.value)


def test_a_response_template_read_without_memory_is_not_taken_for_a_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(raw: object) -> None:
        raise MemoryError

    monkeypatch.setattr(response_template, "_load", fails)
    with pytest.raises(MemoryError):
        response_template.response_template(_ShortTokenizer())


def test_layers_packed_without_memory_are_not_timed_as_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise SHORTAGES[2]

    monkeypatch.setattr(speed, "ExactLinear", fails)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        speed.bf16_is_fast()


def test_no_kernel_for_a_quantisation_is_an_error_and_no_plain_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer, "choose_kernel", lambda quantization, dtype: None)
    cpu = LinearPacker(torch.device("cpu"), "none")
    assert cpu.pack(make_model("llama"), lambda: None, "none", torch.float32) == "plain"
    with pytest.raises(ModelLoadError, match="int8 weights can't be computed on this processor"):
        cpu.pack(make_model("llama"), lambda: None, "int8", torch.float32)
