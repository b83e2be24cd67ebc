"""A model's layers, made ready for adapters, and adapters made ready for them."""

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from hugging_llama.engine.device_loss import exit_if_device_lost
from hugging_llama.engine.lora.adapter import Factors, LoraAdapter, factors_bytes, factors_of
from hugging_llama.engine.lora.current import CurrentChange
from hugging_llama.engine.lora.files import AdapterFiles
from hugging_llama.engine.lora.sites import Site, find_sites
from hugging_llama.engine.memory import is_out_of_memory
from hugging_llama.engine.model_runner import compute_guard, vocab_size
from hugging_llama.engine.native.lora import LowRankPart
from hugging_llama.errors import ModelLoadError
from hugging_llama.neutral.lora import LowRankShape, no_such_layer, other_shape

_log = logging.getLogger(__name__)

_NUM_PROBE_TOKENS = 24


@dataclass(frozen=True, slots=True)
class _Part:
    """What an adapter has for one linear layer; `name` is that of its tensors."""

    name: str
    site: Site
    shape: LowRankShape


class AdaptedLayers:
    """The linear layers of one model. `load` may be called from any thread, by one at a time.

    A layer that some adapter changes looks from then on whether `current` holds a change; all others stay as they are.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.current = CurrentChange()
        self._model = model
        self._sites: Mapping[str, Site] = {}
        self._watched: set[nn.Module] = set()
        self._ready: set[nn.Module] = set()

    def size_bytes(self, files: AdapterFiles) -> int:
        """What an adapter takes in memory. Raises ModelLoadError if it does not fit the model."""
        return sum(
            factors_bytes(
                [(part.shape.r, part.shape.out_features) for part in parts],
                parts[0].site.in_features,
                parts[0].site.width,
                self._model.device,
                self._model.dtype,
            )
            for parts in self._by_module(files).values()
        )

    def load(self, files: AdapterFiles, key: str) -> LoraAdapter:
        """Reads the weights. Raises ModelLoadError if they do not fit the model, or are damaged or no numbers."""
        found = self._by_module(files)
        self._prepare([part for parts in found.values() for part in parts])
        factors = {}
        try:
            with safe_open(files.weights, framework="pt") as file, torch.inference_mode():
                for module, parts in found.items():
                    factors[module] = self._factors(parts, file.get_tensor)
        except (SafetensorError, OSError) as error:
            raise ModelLoadError("the adapter's weights are damaged; pull or create it again") from error
        return LoraAdapter(key, factors, self.size_bytes(files), self.current)

    def _by_module(self, files: AdapterFiles) -> dict[nn.Module, list[_Part]]:
        """The adapter's parts by what computes them, in the order of their columns."""
        # made late: only models that get an adapter need them
        self._sites = self._sites or find_sites(self._model)
        found: dict[nn.Module, list[_Part]] = {}
        for name, shape in files.shapes.items():
            site = self._sites.get(name)
            if site is None:
                raise ModelLoadError(no_such_layer(name))
            if (shape.in_features, shape.out_features) != (site.in_features, site.out_features):
                raise ModelLoadError(other_shape(name, shape, site.in_features, site.out_features))
            if site.is_shared:
                raise ModelLoadError(f"this model uses {name} at several places, which adapters can't change apart")
            found.setdefault(site.module, []).append(_Part(name, site, shape))
        for parts in found.values():
            parts.sort(key=lambda part: part.site.start)
        return found

    def _prepare(self, parts: list[_Part]) -> None:
        """Makes layers look for changes, and tries once whether they are called as they must be: a row a token."""
        new = [part for part in parts if part.site.module not in self._ready]
        if not new:
            return
        for module, is_head in {part.site.module: part.site.is_head for part in new}.items():
            if module not in self._watched:
                _watch(module, self.current, is_head=is_head)
                self._watched.add(module)
        seen, dtype = self._probe(), self._model.dtype
        for part in new:
            if seen.get(part.site.module) != (_NUM_PROBE_TOKENS, dtype, dtype):
                raise ModelLoadError(f"this model computes {part.name} in a way that adapters can't change")
        self._ready.update(part.site.module for part in new)

    def _probe(self) -> "dict[nn.Module, _Call]":
        """How each watched layer is called in a forward of some tokens."""
        model, probe = self._model, _Probe()
        # image and control tokens lie at the ends of vocabularies
        num_ids = vocab_size(model)
        tokens = (num_ids // 3 + torch.arange(_NUM_PROBE_TOKENS, device=model.device)) % num_ids
        try:
            with compute_guard(model.device), torch.inference_mode(), self.current.applied(probe):
                model(input_ids=tokens[None], use_cache=False)
        except Exception as error:
            exit_if_device_lost(error)
            if is_out_of_memory(error):
                raise
            _log.warning("adapters can't be tried on a model", exc_info=error)
            raise ModelLoadError("this kind of model can't be used with adapters") from error
        return probe.seen

    def _factors(self, parts: list[_Part], read: Callable[[str], Tensor]) -> Factors:
        """The scale goes into the second matrix, before it is rounded."""
        device, dtype = self._model.device, self._model.dtype
        found = []
        for part in parts:
            name = f"base_model.model.{part.name}"
            down = read(f"{name}.lora_A.weight").to(dtype)
            up = (read(f"{name}.lora_B.weight").float() * part.shape.scale).to(dtype)
            if not (down.isfinite().all() and up.isfinite().all()):
                raise ModelLoadError(f"the adapter's weights for {part.name} are no finite numbers in {dtype}")
            found.append(LowRankPart(down, up, part.site.start))
        # on MPS nothing may run beside a forward
        with compute_guard(device) if device.type == "mps" else nullcontext():
            return factors_of(found, parts[0].site.width, device, dtype)


_Call = tuple[int, torch.dtype, torch.dtype]
"""The number of rows, their dtype, and that of the result."""


@dataclass(frozen=True, slots=True)
class _Probe:
    """Changes nothing and remembers what it was asked to change."""

    seen: dict[nn.Module, _Call] = field(default_factory=dict)

    def add(self, module: nn.Module, x: Tensor, y: Tensor, *, is_head: bool) -> Tensor:
        """See RowChange."""
        self.seen[module] = (x.numel() // x.shape[-1], x.dtype, y.dtype)
        return y


def _watch(module: nn.Module, current: CurrentChange, *, is_head: bool) -> None:
    """From now on `module` adds the change of the running forward. Its class, names and weights stay what they are."""
    plain = module.forward

    def forward(x: Tensor) -> Tensor:
        y: Tensor = plain(x)
        change = current.change
        return y if change is None else change.add(module, x, y, is_head=is_head)

    module.__dict__["forward"] = forward
