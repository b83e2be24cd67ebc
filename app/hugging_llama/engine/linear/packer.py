"""A loaded model's linear layers exchanged for the best this machine has."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig

from hugging_llama.engine.fallback import structural_part
from hugging_llama.engine.linear.kernels import PLAIN, QUANTIZATIONS, choose_kernel
from hugging_llama.engine.linear.packed import Kernel
from hugging_llama.engine.linear.replace import pack_linears
from hugging_llama.engine.linear.trace import trace_linears
from hugging_llama.engine.memory import raise_if_out_of_memory, trim
from hugging_llama.engine.model_runner import compute_guard
from hugging_llama.errors import ModelLoadError

_log = logging.getLogger(__name__)


class LinearPacker:
    """For the models of one device; on others than the CPU all layers stay. Not thread-safe: loads take turns.

    `default` is the quantization where none is named. Raises ValueError for one that is none.
    """

    def __init__(self, device: torch.device, default: str) -> None:
        if default not in QUANTIZATIONS:
            raise ValueError(f"unknown quantization {default!r}")
        self._device = device
        self._default = default
        self._kernels: dict[tuple[str, torch.dtype], Kernel | None] = {}

    def resolve(self, quantization: str) -> str:
        """One of QUANTIZATIONS, for "" the default. Raises ModelLoadError for what can't be had."""
        quantization = quantization or self._default
        if quantization not in QUANTIZATIONS:
            raise ModelLoadError(f"unknown quantization {quantization!r}: it may be {', '.join(QUANTIZATIONS)}")
        if quantization != "none" and self._device.type != "cpu":
            raise ModelLoadError(f"{quantization} weights are for models on a CPU, and this server uses {self._device}")
        return quantization

    def pack_writer(self, model: Any, quantization: str, dtype: torch.dtype) -> str:
        """`pack` for a causal language model."""
        return self.pack(model, lambda: write_a_little(model), quantization, dtype)

    def pack(self, model: Any, run: Callable[[], object], quantization: str, dtype: torch.dtype) -> str:
        """Packs the linear layers that `run`, a short use of the model, calls; returns what will compute them.

        Raises ModelLoadError if the model can't be quantised.
        """
        if self._device.type != "cpu":
            return PLAIN
        if (quantization, dtype) not in self._kernels:
            self._kernels[quantization, dtype] = choose_kernel(quantization, dtype)
        kernel = self._kernels[quantization, dtype]
        if kernel is None and quantization != "none":
            raise ModelLoadError(f"{quantization} weights can't be computed on this processor")
        if kernel is None:
            return PLAIN
        try:
            with compute_guard(self._device), torch.inference_mode():
                trace = trace_linears(model, run)
        except Exception as error:
            raise_if_out_of_memory(error)
            if quantization != "none":
                raise ModelLoadError(f"this model can't be served with {quantization} weights") from error
            _log.warning("the linear layers stay as they are, since a model failed its first run", exc_info=error)
            return PLAIN
        pack_linears(model, trace, kernel)
        trim()  # plain weights may have lain in the heap
        return kernel.name


def write_a_little(model: Any) -> None:
    """Calls a language model as it will be called: with a prompt, and with what it remembers of one."""
    prompt = torch.ones(1, 4, dtype=torch.int64)
    config: Any = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, min_new_tokens=2, max_new_tokens=2, pad_token_id=0
    )
    kept, model.generation_config = model.generation_config, structural_part(model.generation_config)
    try:
        model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)
    finally:
        model.generation_config = kept
