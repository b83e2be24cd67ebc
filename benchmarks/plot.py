"""Draws benchmarks/results/*.png from the JSON files beside them.

python -m benchmarks.plot
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {"hugging-llama": "#d97706", "llama.cpp": "#475569", "transformers serve": "#94a3b8"}
OTHER_COLOR = "#cbd5e1"
ROW_HEIGHT_IN, PANEL_WIDTH_IN, COLUMNS = 0.32, 5.0, 3

Rows = Sequence[Mapping[str, Any]]


def color_of(who: str) -> str:
    """Ours stands out; names begin with the peer's."""
    return next((color for name, color in COLORS.items() if who.startswith(name)), OTHER_COLOR)


def draw_panel(axes: Axes, case: str, measure: str, rows: Rows) -> None:
    """One bar a peer with its median, and a whisker from the least to the greatest round."""
    medians = [row["median"] for row in rows]
    below = [row["median"] - min(row["values"]) for row in rows]
    above = [max(row["values"]) - row["median"] for row in rows]
    bars = axes.barh(
        [row["who"] for row in rows], medians, xerr=[below, above], color=[color_of(row["who"]) for row in rows]
    )
    axes.bar_label(bars, [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in medians], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_title(f"{case}: {measure}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def panels_of(rows: Rows) -> list[tuple[tuple[str, str], Rows]]:
    """Rows by case and measure, in the order of the file."""
    names = dict.fromkeys((row["case"], row["measure"]) for row in rows)
    return [(name, [row for row in rows if (row["case"], row["measure"]) == name]) for name in names]


def draw(report: Mapping[str, Any]) -> Figure:
    """One report, a panel for each case and measure; below it when and where it was measured."""
    panels = panels_of(report["rows"])
    lines = -(-len(panels) // COLUMNS)
    longest = max(len(rows) for _, rows in panels)
    height = lines * (longest * ROW_HEIGHT_IN + 0.8) + 0.8
    figure, grid = plt.subplots(
        lines, COLUMNS, figsize=(COLUMNS * PANEL_WIDTH_IN, height), squeeze=False, layout="constrained"
    )
    for axes, (name, rows) in zip(grid.flat, panels, strict=False):
        draw_panel(axes, *name, rows)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    figure.suptitle(report["title"])
    figure.supxlabel(f"{report['date']}, {machine['cpu']}, {machine['cores']} cores; {versions}", fontsize=7)
    return figure


def main() -> None:
    """A picture for every report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder of JSON files")
    for path in sorted(parser.parse_args().results.glob("*.json")):
        figure = draw(json.loads(path.read_text()))
        figure.savefig(path.with_suffix(".png"), dpi=110)
        plt.close(figure)
        print(path.with_suffix(".png"))


if __name__ == "__main__":
    main()
