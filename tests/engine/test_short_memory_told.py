"""An allocation that fails says that memory is short, wherever it fails, and decides nothing for good."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hugging_llama.engine import classification
from hugging_llama.engine.loader import Loader
from hugging_llama.engine.memory import is_out_of_memory
from hugging_llama.engine.outbox import as_generation_error
from hugging_llama.engine.runner import choose_runner
from hugging_llama.errors import GenerationError, InsufficientMemoryError
from hugging_llama_config.settings import Settings
from tests.engine.classifier_files import make_classifier
from tests.engine.tiny_models import make_model

SHORTAGES: list[Exception] = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
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
