"""16 streams of 64 tokens beside one with a context of 8,000, against the same 16 by themselves.

python -m benchmarks.mixed_lengths
"""

import asyncio
import statistics
from collections.abc import Sequence

from benchmarks.background import running_stream
from benchmarks.bench_model import Prompt, make_prompts
from benchmarks.client import ask
from benchmarks.measure import CpuWatch, Stream
from benchmarks.options import kept, parser_for, settle
from benchmarks.peers import GGUF_KIND, OURS, Server, ours
from benchmarks.report import Ratio, Report, Row

STREAMS, PROMPT_TOKENS, NEW_TOKENS, LONG_NEW_TOKENS = 16, 64, 64, 700
AT_MOST = 1.2


async def short_streams(server: Server, prompts: Sequence[Prompt]) -> float:
    """Milliseconds a token after the first one, the median of the streams."""
    wire = server.wire
    wave: list[Stream] = await asyncio.gather(
        *(ask(server.port, wire.path, wire.body(prompt, NEW_TOKENS), wire.read) for prompt in prompts)
    )
    return 1000 * statistics.median(stream.token_s for stream in wave)


async def run_round(server: Server, long: Prompt, number: int) -> tuple[float, float]:
    """The short streams' milliseconds a token, by themselves and beside `long`."""
    alone = await short_streams(server, make_prompts(STREAMS, PROMPT_TOKENS, seed=80_000 + number))
    async with running_stream(server, long, LONG_NEW_TOKENS):
        beside = await short_streams(server, make_prompts(STREAMS, PROMPT_TOKENS, seed=90_000 + number))
    print(f"round {number}: {alone:.1f} ms a token alone, {beside:.1f} ms beside the long one", flush=True)
    return alone, beside


def main() -> None:
    """Print and write the table."""
    parser = parser_for(__doc__)
    parser.add_argument("--weights", default="bf16", choices=list(GGUF_KIND))
    parser.add_argument("--long-tokens", type=int, default=8000)
    arguments = parser.parse_args()
    settle(arguments)
    # the same in all rounds: a server that reuses prompts evaluates it once
    (long,) = make_prompts(1, arguments.long_tokens, seed=1)
    context_length = str(arguments.long_tokens + LONG_NEW_TOKENS)
    with ours(arguments.cache, arguments.weights, arguments.threads, context_length=context_length) as server:
        asyncio.run(short_streams(server, make_prompts(STREAMS, PROMPT_TOKENS, seed=80_000)))
        watch = CpuWatch()
        found = [asyncio.run(run_round(server, long, number)) for number in range(1, arguments.rounds + 1)]
        foreign = watch.foreign_cores()
    case, measure = f"{arguments.weights}, {STREAMS} streams of {NEW_TOKENS}", "ms a token"
    alone = Row(case=case, who=f"{OURS}, alone", measure=measure, values=tuple(at for at, _ in found))
    beside_name = f"{OURS}, beside one of {arguments.long_tokens}"
    beside = Row(case=case, who=beside_name, measure=measure, values=tuple(at for _, at in found))
    Report(
        name="mixed_lengths",
        title="Short streams beside a long one",
        rows=[alone, beside],
        ratios=[Ratio(what=f"{case}, beside a long one by alone", value=beside.median / alone.median, at_most=AT_MOST)],
        arguments=kept(arguments),
        versions={},
        foreign_cores=foreign,
    ).publish(arguments.results)


if __name__ == "__main__":
    main()
