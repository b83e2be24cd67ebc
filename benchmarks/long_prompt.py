"""The longest gap in a running stream while a prompt of 4,000 tokens is evaluated beside it.

python -m benchmarks.long_prompt
"""

import asyncio
import itertools

from benchmarks.background import running_stream
from benchmarks.bench_model import make_prompts
from benchmarks.client import ask
from benchmarks.measure import CpuWatch
from benchmarks.options import kept, parser_for, settle
from benchmarks.peers import GGUF_KIND, OURS, Server, ours
from benchmarks.report import Ratio, Report, Row

RUNNING_PROMPT_TOKENS, RUNNING_NEW_TOKENS, LONG_NEW_TOKENS = 64, 3500, 2
AT_MOST_MS = 250.0


async def run_round(server: Server, prompt_tokens: int, number: int) -> tuple[float, float]:
    """Milliseconds: the running stream's longest gap, and the long prompt's time to its first token."""
    (running,) = make_prompts(1, RUNNING_PROMPT_TOKENS, seed=60_000 + number)
    (long,) = make_prompts(1, prompt_tokens, seed=70_000 + number)
    wire = server.wire
    async with running_stream(server, running, RUNNING_NEW_TOKENS) as times_s:
        stream = await ask(server.port, wire.path, wire.body(long, LONG_NEW_TOKENS), wire.read)
        times = [*times_s]
    # from the last token before it came to the first one after its own
    before = max(at for at in times if at <= stream.sent_s)
    end = stream.token_times_s[0]
    inside = [before, *(at for at in times if before < at <= end), end]
    longest = max(later - earlier for earlier, later in itertools.pairwise(inside))
    print(f"round {number}: longest gap {1000 * longest:.0f} ms over {len(inside) - 2} tokens", flush=True)
    return 1000 * longest, 1000 * stream.first_token_s


def main() -> None:
    """Print and write the table."""
    parser = parser_for(__doc__)
    parser.add_argument("--weights", default="bf16", choices=list(GGUF_KIND))
    parser.add_argument("--prompt-tokens", type=int, default=4000)
    arguments = parser.parse_args()
    settle(arguments)
    context_length = str(arguments.prompt_tokens + RUNNING_NEW_TOKENS)
    with ours(arguments.cache, arguments.weights, arguments.threads, context_length=context_length) as server:
        # also what a budget that is tuned by measured steps learns from
        asyncio.run(run_round(server, arguments.prompt_tokens // 4, 0))
        watch = CpuWatch()
        found = [
            asyncio.run(run_round(server, arguments.prompt_tokens, number)) for number in range(1, arguments.rounds + 1)
        ]
        foreign = watch.foreign_cores()
    case = f"{arguments.weights}, {arguments.prompt_tokens} tokens"
    gap = Row(case=case, who=OURS, measure="longest gap of a running stream, ms", values=tuple(gap for gap, _ in found))
    first = Row(case=case, who=OURS, measure="first token of the long prompt, ms", values=tuple(at for _, at in found))
    Report(
        name="long_prompt",
        title="A running stream while a long prompt comes",
        rows=[gap, first],
        ratios=[Ratio(what=f"{case}, longest gap in ms", value=gap.median, at_most=AT_MOST_MS)],
        arguments=kept(arguments),
        versions={},
        foreign_cores=foreign,
    ).publish(arguments.results)


if __name__ == "__main__":
    main()
