"""Which linear layers a model calls, on what, and which of them it opens."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True, slots=True)
class Trace:
    """`calls`: each linear layer and its input, in order. `opened`: those whose weight the model read itself."""

    calls: list[tuple[nn.Module, Tensor]] = field(default_factory=list)
    opened: set[nn.Module] = field(default_factory=set)


class _Traced(nn.Module):
    """Put before the class of a linear layer while a model is traced."""

    def forward(self, x: Tensor) -> Tensor:
        state = self.__dict__
        state["trace"].calls.append((self, x))
        state["is_computing"] = True
        try:
            y: Tensor = super().forward(x)
        finally:
            state["is_computing"] = False
        return y

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias") and not self.__dict__["is_computing"]:
            self.__dict__["trace"].opened.add(self)
        return super().__getattr__(name)


class _TracedLinear(_Traced, nn.Linear):
    pass


class _TracedConv1D(_Traced, Conv1D):
    pass


_TRACED: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: _TracedLinear, Conv1D: _TracedConv1D}


def trace_linears(model: nn.Module, run: Callable[[], object]) -> Trace:
    """What `run`, which calls `model`, does with the model's linear layers (exactly nn.Linear and GPT-2's Conv1D).

    The model is afterwards as it was. Raises whatever `run` raises.
    """
    trace = Trace()
    layers = [(module, type(module)) for module in model.modules() if type(module) in _TRACED]
    try:
        for module, kind in layers:
            module.__dict__.update(trace=trace, is_computing=False)
            module.__class__ = _TRACED[kind]
        run()
    finally:
        for module, kind in layers:
            module.__class__ = kind
            for name in ("trace", "is_computing"):
                module.__dict__.pop(name, None)
    return trace


def matrix(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """The weight `[out_features, in_features]` and the bias of a linear layer or a Conv1D."""
    weight: Any = module.weight
    bias: Any = module.bias
    return (weight.T if isinstance(module, Conv1D) else weight), bias
