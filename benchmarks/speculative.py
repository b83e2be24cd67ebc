"""Greedy streams with drafts looked up in the text, against the same streams without; the text repeats itself.

python -m benchmarks.speculative --drafts 8
"""

import re

import requests

from benchmarks.bench_model import REPO, Prompt, make_prompts
from benchmarks.client import HOST, ollama_wire
from benchmarks.measure import CpuWatch, Stream, decode_rate
from benchmarks.options import kept, parser_for, settle
from benchmarks.peers import GGUF_KIND, Server, ours
from benchmarks.report import Ratio, Report, medians
from benchmarks.rounds import alternate, rows_of

PASSAGE_TOKENS, REPEATS, NEW_TOKENS = 24, 8, 128
PLAIN, DRAFTED = "without drafts", "with drafts"
RATE = "tokens/s while decoding"


def repeating_prompt(number: int) -> Prompt:
    """A passage several times over."""
    (passage,) = make_prompts(1, PASSAGE_TOKENS, seed=110_000 + number)
    return Prompt(passage.text * REPEATS, passage.token_ids * REPEATS)


def draft_counts(port: int) -> tuple[float, float]:
    """Tokens drafted and accepted so far. Raises RuntimeError if it does not count them."""
    text = requests.get(f"http://{HOST}:{port}/metrics", timeout=10).text
    found = [re.search(rf"^hugging_llama_engine_{name}_total (\S+)$", text, re.MULTILINE) for name in
             ("drafted_tokens", "accepted_tokens")]  # fmt: skip
    if not all(found):
        raise RuntimeError("the server does not count drafts")
    drafted, accepted = (float(match[1]) for match in found if match)
    return drafted, accepted


def same_share(plain: list[list[Stream]], drafted: list[list[Stream]]) -> float:
    """The share of streams with the same text both ways."""
    pairs = [pair for waves in zip(plain, drafted, strict=True) for pair in zip(*waves, strict=True)]
    return sum(one.text == other.text for one, other in pairs) / len(pairs)


def main() -> None:
    """Print and write the table."""
    parser = parser_for(__doc__)
    parser.add_argument("--weights", default="bf16", choices=list(GGUF_KIND))
    parser.add_argument("--drafts", type=int, default=8, help="draft_num_predict")
    arguments = parser.parse_args()
    settle(arguments)
    case = f"{arguments.weights}, 1 stream"
    with ours(arguments.cache, arguments.weights, arguments.threads) as server:
        peers = {
            PLAIN: server,
            DRAFTED: Server(server.port, ollama_wire(REPO, draft_num_predict=arguments.drafts)),
        }
        watch = CpuWatch()
        waves = alternate(
            peers,
            case,
            rounds=arguments.rounds,
            max_tokens=NEW_TOKENS,
            prompts=lambda number: [repeating_prompt(number)],
        )
        foreign = watch.foreign_cores()
        drafted, accepted = draft_counts(server.port)
    if not drafted:
        raise RuntimeError("nothing was drafted: the server does not know draft_num_predict")
    rows = rows_of(waves, case, {RATE: decode_rate})
    found = medians(rows, case, RATE)
    Report(
        name="speculative",
        title="Drafts looked up in the text",
        rows=rows,
        ratios=[
            Ratio(what=f"{case}, with drafts by without", value=found[DRAFTED] / found[PLAIN]),
            Ratio(what="share of drafted tokens that were right", value=accepted / drafted),
            Ratio(
                what="share of streams with the same text", value=same_share(waves[PLAIN], waves[DRAFTED]), at_least=1.0
            ),
        ],
        arguments=kept(arguments),
        versions={},
        foreign_cores=foreign,
    ).publish(arguments.results)


if __name__ == "__main__":
    main()
