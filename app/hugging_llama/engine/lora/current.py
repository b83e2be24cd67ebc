"""The seam between a layer and what is added to its result in the forward that is under way."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn


class RowChange(Protocol):
    """What a forward adds to the results of the layers that some adapter changes."""

    def add(self, module: nn.Module, x: Tensor, y: Tensor, *, is_head: bool) -> Tensor:
        """`y` `[..., width]`, what `module` made of `x` `[..., in_features]`, with the change; may work in place."""
        ...


class CurrentChange(threading.local):
    """The change of the forward that runs in this thread, None for none; one of these a model.

    Forwards of one model may be under way in two threads, the batch's and a beam search's.
    """

    change: RowChange | None = None

    @contextmanager
    def applied(self, change: RowChange) -> Iterator[None]:
        """Forwards inside get it."""
        self.change = change
        try:
            yield
        finally:
            self.change = None
