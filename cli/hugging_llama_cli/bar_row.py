"""One line of a download's display: as much as the terminal's width has room for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_USUAL_SUFFIX = ".safetensors"
_SHARD = re.compile(r".*-([0-9]{1,9})-of-([0-9]{1,9})")
_BAR_CELLS = 24
_LEAST_BAR_CELLS = 4
_NAME_CELLS = 36
_LEAST_NAME_CELLS = 12
_PERCENT_CELLS = 5
_PACE_CELLS = 21
_AMOUNT_CELLS = 16
_EDGE_CELLS = 3
_WITHOUT_NAME_CELLS = 54


@dataclass(frozen=True, slots=True)
class Columns:
    """What each line of a terminal this wide shows; 0 cells for a bar that has no room, else without its edges."""

    name_cells: int
    bar_cells: int
    has_amount: bool
    has_pace: bool


def columns(width: int) -> Columns:
    """The layout for a terminal of `width` cells, the last of which stays free: some terminals wrap there.

    What leaves first is the bar, then the amount, then speed and time left.
    """
    name_cells = min(_NAME_CELLS, max(_LEAST_NAME_CELLS, width - _WITHOUT_NAME_CELLS))
    room = width - 1 - name_cells - _PERCENT_CELLS - _PACE_CELLS
    has_pace = room >= 0
    room -= _AMOUNT_CELLS
    has_amount = room >= 0
    bar_cells = min(_BAR_CELLS, room - _EDGE_CELLS)
    return Columns(name_cells, bar_cells if bar_cells >= _LEAST_BAR_CELLS else 0, has_amount, has_pace)


def row(layout: Columns, name: str, share: float, amount: str, pace: str, cells: Sequence[str]) -> str:
    """A line; `share` is 0 to 1, `cells` are the left edge, a full cell, an empty one and the right edge."""
    text = f"{shortened(name, layout.name_cells):<{layout.name_cells}} {int(share * 100):3d}%"
    if layout.bar_cells:
        left, full, empty, right = cells
        text += f" {left}{(full * int(share * layout.bar_cells)).ljust(layout.bar_cells, empty)}{right}"
    if layout.has_amount:
        text += f" {amount:<{_AMOUNT_CELLS - 1}}"
    if layout.has_pace:
        text += f"   {pace}"
    return text.rstrip()


def shortened(name: str, cells: int) -> str:
    """`name` in at most so many cells; where weights are split it stays clear which part this is."""
    if len(name) <= cells:
        return name
    name = name.removesuffix(_USUAL_SUFFIX)
    shard = _SHARD.fullmatch(name)
    if len(name) > cells and shard:
        name = f"part {int(shard[1])}/{int(shard[2])}"
    if len(name) <= cells:
        return name
    head = (cells - 2) * 2 // 3
    return f"{name[:head]}..{name[len(name) - (cells - 2 - head) :]}"
