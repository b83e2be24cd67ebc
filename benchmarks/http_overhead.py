"""What gunicorn, Flask and the socket take of the engine's tokens a second at 16 streams.

python -m benchmarks.http_overhead
"""

import functools
import math

from benchmarks.bench_model import Prompt, make_prompts
from benchmarks.in_process import RunWave, bare_engine
from benchmarks.measure import CpuWatch, decode_rate, run_rate
from benchmarks.options import kept, parser_for, settle
from benchmarks.peers import GGUF_KIND, ours
from benchmarks.report import Ratio, Report, medians
from benchmarks.rounds import alternate, rows_of
from hugging_llama_config.settings import Settings

PROMPT_TOKENS, NEW_TOKENS, QUICK_NEW_TOKENS = 64, 64, 24
SERVED, BARE = "over HTTP", "engine called directly"
RUN, DECODE = "tokens/s", "tokens/s while decoding"
AT_LEAST = {RUN: 0.95}


def prompts_of_round(streams: int, number: int) -> list[Prompt]:
    """Distinct ones."""
    return make_prompts(streams, PROMPT_TOKENS, seed=100_000 + number)


def main() -> None:
    """Print and write the table."""
    parser = parser_for(__doc__)
    parser.add_argument("--weights", default="bf16", choices=list(GGUF_KIND))
    parser.add_argument("--streams", type=int, default=16)
    arguments = parser.parse_args()
    snapshot = settle(arguments)
    quantize = {} if arguments.weights == "bf16" else {"quantize": arguments.weights}
    settings = Settings(
        device="cpu", dtype="bfloat16", num_threads=arguments.threads, keep_alive_s=math.inf, **quantize
    )
    case = f"{arguments.weights}, {arguments.streams} streams"
    new_tokens = QUICK_NEW_TOKENS if arguments.quick else NEW_TOKENS
    prompts = functools.partial(prompts_of_round, arguments.streams)
    with (
        ours(arguments.cache, arguments.weights, arguments.threads) as server,
        bare_engine(snapshot, settings) as bare,
    ):
        watch = CpuWatch()
        peers: dict[str, RunWave] = {SERVED: server, BARE: bare}
        waves = alternate(peers, case, rounds=arguments.rounds, max_tokens=new_tokens, prompts=prompts)
        foreign = watch.foreign_cores()
    rows = rows_of(waves, case, {RUN: run_rate, DECODE: decode_rate})
    ratios = []
    for measure in (RUN, DECODE):
        found = medians(rows, case, measure)
        ratios.append(
            Ratio(
                what=f"{case}, {measure}, HTTP by engine",
                value=found[SERVED] / found[BARE],
                at_least=AT_LEAST.get(measure),
            )
        )
    Report(
        name="http_overhead",
        title="HTTP on top of the engine",
        rows=rows,
        ratios=ratios,
        arguments=kept(arguments),
        versions={},
        foreign_cores=foreign,
    ).publish(arguments.results)


if __name__ == "__main__":
    main()
