"""Tokens a second of 1 and 16 streams against llama.cpp's server, `transformers serve` and `generate` in threads.

python -m benchmarks.decode --llama-server PATH --serve-python PATH --weights bf16 int8 int4
"""

import argparse
import functools
from pathlib import Path

from benchmarks.bench_model import Prompt, make_prompts
from benchmarks.in_process import read_bandwidth
from benchmarks.measure import CpuWatch, decode_rate, first_token_s, run_rate
from benchmarks.options import kept, parser_for, peer_versions, settle
from benchmarks.peers import GENERATE, GGUF_KIND, LLAMA, OURS, SERVE, started
from benchmarks.report import Ratio, Report, Row, medians
from benchmarks.rounds import alternate, rows_of

PROMPT_TOKENS, NEW_TOKENS, QUICK_NEW_TOKENS = 64, 64, 16
RUN, DECODE, FIRST = "tokens/s", "tokens/s while decoding", "first token, ms"
MEASURES = {RUN: run_rate, DECODE: decode_rate, FIRST: lambda wave: 1000 * first_token_s(wave)}
AT_LEAST = {
    ("bf16", 1, GENERATE): 1.6,
    ("bf16", 16, GENERATE): 14.0,
    ("bf16", 16, SERVE): 1.8,
    ("bf16", 16, LLAMA): 1.4,
    ("int8", 1, LLAMA): 0.8,
    ("int8", 16, LLAMA): 2.0,
    ("int4", 1, LLAMA): 0.6,
    ("int4", 16, LLAMA): 1.2,
}


def case_name(weights: str, streams: int) -> str:
    """As it stands in tables and figures."""
    return f"{weights}, {streams} stream{'s' if streams > 1 else ''}"


def prompts_of_round(streams: int, number: int) -> list[Prompt]:
    """Distinct ones, the same for every peer."""
    return make_prompts(streams, PROMPT_TOKENS, seed=1000 * streams + number)


def run_weights(arguments: argparse.Namespace, snapshot: Path, weights: str) -> tuple[list[Row], float]:
    """All peers that run `weights`, side by side; with what others took of the CPU meanwhile."""
    new_tokens = QUICK_NEW_TOKENS if arguments.quick else NEW_TOKENS
    rows: list[Row] = []
    with started(arguments, snapshot, weights, (OURS, LLAMA, SERVE, GENERATE)) as peers:
        watch = CpuWatch()
        for streams in arguments.streams:
            prompts = functools.partial(prompts_of_round, streams)
            case = case_name(weights, streams)
            waves = alternate(peers, case, rounds=arguments.rounds, max_tokens=new_tokens, prompts=prompts)
            rows += rows_of(waves, case, MEASURES)
        return rows, watch.foreign_cores()


def ratios_of(rows: list[Row], weights: str, streams: int) -> list[Ratio]:
    """Ours by each peer's, over the whole run and while decoding; what must be reached is over the whole run."""
    ratios = []
    for measure in (RUN, DECODE):
        found = medians(rows, case_name(weights, streams), measure)
        for other in found.keys() - {OURS} if OURS in found else ():
            kind = f" {GGUF_KIND[weights]}" if other == LLAMA else ""
            bound = AT_LEAST.get((weights, streams, other)) if measure == RUN else None
            what = f"{case_name(weights, streams)}, {measure}, by {other}{kind}"
            ratios.append(Ratio(what=what, value=found[OURS] / found[other], at_least=bound))
    return sorted(ratios, key=lambda ratio: ratio.what)


def main() -> None:
    """Print and write the table."""
    parser = parser_for(__doc__)
    parser.add_argument("--weights", nargs="+", default=["bf16"], choices=list(GGUF_KIND))
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    arguments = parser.parse_args()
    snapshot = settle(arguments)
    weight_bytes = (snapshot / "model.safetensors").stat().st_size
    limit = read_bandwidth(arguments.threads) / weight_bytes
    rows = [Row(case=case_name("bf16", 1), who="memory bandwidth", measure=RUN, values=(limit,))]
    foreign = 0.0
    for weights in arguments.weights:
        found, taken = run_weights(arguments, snapshot, weights)
        rows += found
        foreign = max(foreign, taken)
    Report(
        name="decode",
        title=f"Decode, {PROMPT_TOKENS} prompt tokens, greedy, over HTTP",
        rows=rows,
        ratios=[ratio for w in arguments.weights for n in arguments.streams for ratio in ratios_of(rows, w, n)],
        arguments=kept(arguments),
        versions=peer_versions(arguments),
        foreign_cores=foreign,
    ).publish(arguments.results)


if __name__ == "__main__":
    main()
