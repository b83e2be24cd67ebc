"""Time to the first token of a prompt of 1,024, against llama.cpp's server.

python -m benchmarks.first_token --llama-server PATH --weights bf16 int8
"""

import functools

from benchmarks.bench_model import Prompt, make_prompts
from benchmarks.measure import CpuWatch, first_token_s
from benchmarks.options import kept, parser_for, peer_versions, settle
from benchmarks.peers import GGUF_KIND, LLAMA, OURS, started
from benchmarks.report import Ratio, Report, Row, medians
from benchmarks.rounds import alternate, rows_of

NEW_TOKENS = 2
FIRST, SPEED = "first token, ms", "prompt tokens/s"
AT_LEAST = {"bf16": 1.15, "int8": 1.8}


def prompts_of_round(num_tokens: int, number: int) -> list[Prompt]:
    """One prompt, the same for every peer."""
    return make_prompts(1, num_tokens, seed=20_000 + number)


def main() -> None:
    """Print and write the table."""
    parser = parser_for(__doc__)
    parser.add_argument("--weights", nargs="+", default=["bf16"], choices=list(GGUF_KIND))
    parser.add_argument("--prompt-tokens", type=int, default=1024)
    arguments = parser.parse_args()
    snapshot = settle(arguments)
    measures = {
        FIRST: lambda wave: 1000 * first_token_s(wave),
        SPEED: lambda wave: arguments.prompt_tokens / first_token_s(wave),
    }
    prompts = functools.partial(prompts_of_round, arguments.prompt_tokens)
    rows: list[Row] = []
    ratios: list[Ratio] = []
    foreign = 0.0
    for weights in arguments.weights:
        case = f"{weights}, {arguments.prompt_tokens} tokens"
        with started(arguments, snapshot, weights, (OURS, LLAMA)) as peers:
            watch = CpuWatch()
            waves = alternate(peers, case, rounds=arguments.rounds, max_tokens=NEW_TOKENS, prompts=prompts)
            foreign = max(foreign, watch.foreign_cores())
        rows += rows_of(waves, case, measures)
        found = medians(rows, case, FIRST)
        if {OURS, LLAMA} <= found.keys():
            what = f"{case}, times faster than {LLAMA} {GGUF_KIND[weights]}"
            ratios.append(Ratio(what=what, value=found[LLAMA] / found[OURS], at_least=AT_LEAST.get(weights)))
    Report(
        name="first_token",
        title="Time to the first token",
        rows=rows,
        ratios=ratios,
        arguments=kept(arguments),
        versions=peer_versions(arguments),
        foreign_cores=foreign,
    ).publish(arguments.results)


if __name__ == "__main__":
    main()
