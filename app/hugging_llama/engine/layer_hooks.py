"""A look around between two layers of a running forward."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def before_layers(layers: Iterable[torch.nn.Module], call: Callable[[], None]) -> Iterator[None]:
    """Inside, `call` is called before each of these layers; what it raises ends the forward.

    Forwards of other threads don't notice.
    """
    thread = threading.get_ident()

    def hook(*_: Any) -> None:
        if threading.get_ident() == thread:
            call()

    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layers_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The longest list of modules: every family keeps its layers in one."""
    lists = [list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len, default=[])
