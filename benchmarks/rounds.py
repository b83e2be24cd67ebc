"""Peers in turn: a warm-up wave each, then rounds in which every one of them runs the same prompts."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.bench_model import Prompt
from benchmarks.in_process import RunWave
from benchmarks.measure import Stream, run_rate
from benchmarks.report import Row

Measure = Callable[[Sequence[Stream]], float]

_WARM_UP_TOKENS = 4


def alternate(
    peers: Mapping[str, RunWave],
    case: str,
    *,
    rounds: int,
    max_tokens: int,
    prompts: Callable[[int], Sequence[Prompt]],
) -> dict[str, list[list[Stream]]]:
    """The waves of each peer, one a round. `prompts(n)` makes those of round n, 0 the warm-up; no two rounds share any.

    Raises RuntimeError if a peer generates fewer or more than `max_tokens` for a prompt.
    """
    waves: dict[str, list[list[Stream]]] = {name: [] for name in peers}
    for run in peers.values():
        run(prompts(0), _WARM_UP_TOKENS)
    for number in range(1, rounds + 1):
        for name, run in peers.items():
            wave = run(prompts(number), max_tokens)
            _check(name, wave, prompts(number), max_tokens)
            waves[name].append(wave)
            print(f"{case}, round {number}, {name}: {run_rate(wave):.1f} tokens/s", flush=True)
    return waves


def rows_of(waves: Mapping[str, Sequence[Sequence[Stream]]], case: str, measures: Mapping[str, Measure]) -> list[Row]:
    """One row a peer and measure, one value a round."""
    return [
        Row(case=case, who=name, measure=measure, values=tuple(compute(wave) for wave in of_peer))
        for name, of_peer in waves.items()
        for measure, compute in measures.items()
    ]


def _check(name: str, wave: Sequence[Stream], prompts: Sequence[Prompt], max_tokens: int) -> None:
    wanted = {(len(prompt.token_ids), max_tokens) for prompt in prompts}
    found = {(stream.num_prompt_tokens, stream.num_output_tokens) for stream in wave}
    if found != wanted:
        raise RuntimeError(f"{name}: prompt and output tokens should be {wanted}, not {found}")
