"""Measure how fast a running server answers with a model: one stream, several at once, a long prompt.

What is printed are medians over the rounds; tokens/s are over the whole run, prompts included. With --compare a second
server is asked the same in turn, and ratios are printed: above 1 this server is the better one. Any server that speaks
Ollama's API can be compared.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hugging_llama_cli.errors import CliError, UsageError
from hugging_llama_cli.render import table
from hugging_llama_cli.speed import Figures, Load, Target, measure
from hugging_llama_cli.terminal import Spinner, columns
from hugging_llama_config.client import load_client_settings

_ROWS = (
    ("single", "1 stream", "tokens/s"),
    ("single_first_s", "first token", "ms"),
    ("together", "{streams} streams", "tokens/s"),
    ("together_first_s", "first token of {streams}", "ms"),
    ("prompt", "prompt of {prompt_tokens}", "tokens/s"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("model", metavar="MODEL", help="a name as `list` prints it")
    parser.add_argument("--streams", type=_count, default=8, metavar="N", help="streams at once (default: 8)")
    parser.add_argument("--tokens", type=_count, default=64, metavar="N", help="tokens of each answer (default: 64)")
    parser.add_argument(
        "--prompt-tokens",
        type=_count,
        default=512,
        metavar="N",
        help="about the length of the long prompt (default: 512)",
    )
    parser.add_argument("--rounds", type=_count, default=3, metavar="N", help="default: 3")
    parser.add_argument("--compare", metavar="URL", help="another server, asked in turn with this one")
    parser.add_argument("--compare-model", metavar="MODEL", help="the model's name there, if it is another one")
    parser.add_argument("--json", action="store_true", help="print JSON, with the figures of each round")
    parser.add_argument("--png", metavar="FILE", help="also draw them (needs matplotlib)")


def run(args: argparse.Namespace) -> int:
    """Measure, then print."""
    if args.compare_model and not args.compare:
        raise UsageError("--compare-model is the model of --compare")
    draw = _drawing(Path(args.png)) if args.png else None
    load = Load(streams=args.streams, tokens=args.tokens, prompt_tokens=args.prompt_tokens, rounds=args.rounds)
    targets = [Target(settings=load_client_settings(args.url), model=args.model)]
    if args.compare:
        targets.append(Target(settings=load_client_settings(args.compare), model=args.compare_model or args.model))
    with Spinner(sys.stderr, "measuring") as spinner:
        found = measure(targets, load, spinner.say)
    if args.json:
        print(json.dumps(_json(targets, load, found), indent=2))
    else:
        print(table(*_table(targets, load, found), columns(sys.stdout)))
    if draw is not None:
        draw(targets, load, found)
        print(f"drawn to {args.png}", file=sys.stderr)
    return 0


def _table(
    targets: Sequence[Target], load: Load, found: Sequence[Figures]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    headers = ("MEASURE", *(_where(target) for target in targets), *(("RATIO",) if len(targets) > 1 else ()))
    medians = [figures.medians() for figures in found]
    rows = []
    for name, label, unit in _ROWS:
        values = [median[name] for median in medians]
        cells = [_shown(value, unit) for value in values]
        rows.append((_label(label, load), *cells, *((_ratio(values, unit),) if len(values) > 1 else ())))
    return headers, rows


def _where(target: Target) -> str:
    return target.settings.url.partition("://")[2]


def _label(label: str, load: Load) -> str:
    return label.format(streams=load.streams, prompt_tokens=load.prompt_tokens)


def _shown(value: float, unit: str) -> str:
    amount = value * 1000 if unit == "ms" else value
    return f"{amount:.{0 if amount >= 100 else 1}f} {unit}"


def _ratio(values: Sequence[float], unit: str) -> str:
    """How many times better the first is: faster, or sooner."""
    better, worse = (values[1], values[0]) if unit == "ms" else (values[0], values[1])
    return f"{better / worse:.2f}" if worse > 0 else "-"


def _json(targets: Sequence[Target], load: Load, found: Sequence[Figures]) -> dict[str, Any]:
    return {
        "streams": load.streams,
        "tokens": load.tokens,
        "prompt_tokens": load.prompt_tokens,
        "servers": [
            {
                "url": target.settings.url,
                "model": target.model,
                "medians": figures.medians(),
                "rounds": {name: getattr(figures, name) for name, _, _ in _ROWS},
            }
            for target, figures in zip(targets, found, strict=True)
        ],
    }


def _drawing(path: Path) -> Any:
    """The function that draws. Raises CliError before anything is measured in vain."""
    if not path.parent.is_dir():
        raise CliError(f"'{path}' can't be written: there is no folder '{path.parent}'")
    if path.is_dir():
        raise CliError(f"'{path}' can't be written: it is a folder")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CliError(f"'{path}' can't be written: this user may not")
    try:
        import matplotlib
    except ImportError:
        raise CliError("--png needs matplotlib: pip install 'hugging-llama[bench]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    def draw(targets: Sequence[Target], load: Load, found: Sequence[Figures]) -> None:
        figure, axes = pyplot.subplots(1, len(_ROWS), figsize=(3 * len(_ROWS), 4))
        for axis, (name, label, unit) in zip(axes, _ROWS, strict=True):
            values = [figures.medians()[name] * (1000 if unit == "ms" else 1) for figures in found]
            bars = axis.bar([_where(target) for target in targets], values, color=["#2563eb", "#9ca3af"][: len(values)])
            axis.bar_label(bars, fmt="%.1f")
            axis.set_title(f"{_label(label, load)}\n({unit})", fontsize=10)
            axis.tick_params(axis="x", labelsize=7)
            axis.margins(y=0.15)
        figure.tight_layout()
        try:
            figure.savefig(path, format="png", dpi=120)
        except OSError as error:
            raise CliError(f"'{path}' can't be written: {error.strerror}") from None
        finally:
            pyplot.close(figure)

    return draw


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000000")
    return int(text)
