"""What a JSON Schema costs: tokens/s of 16 streams with one and without; what a schema that nobody has sent before
costs its own first token, and the streams beside it.

python -m benchmarks.structured
"""

import asyncio
import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any

from benchmarks.background import running_stream
from benchmarks.bench_model import ENDING_REPO, Prompt, make_ending_model, make_prompts
from benchmarks.client import ask
from benchmarks.measure import CpuWatch, decode_rate, run_rate
from benchmarks.options import kept, parser_for, settle
from benchmarks.peers import GGUF_KIND, Server, ours
from benchmarks.report import Ratio, Report, Row, medians
from benchmarks.rounds import alternate, rows_of

FREE, BOUND, STRINGS = "without a schema", "a schema of objects", "a schema of strings, hardly a token forced"
KNOWN, NEW = "schema seen before", "schema never seen"
RUN, DECODE = "tokens/s", "tokens/s while decoding"
FIRST, GAP = "first token, ms", "longest gap of running streams, ms"
PROMPT_TOKENS, NEW_TOKENS, QUICK_NEW_TOKENS, STREAMS = 64, 64, 16, 16
RUNNING, NUM_SCHEMAS, RUNNING_NEW_TOKENS = 4, 20, 3000
AT_LEAST, MOST_DELAY_MS, MOST_GAP_MS = 0.9, 300.0, 50.0

ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "name": {"type": "string", "maxLength": 40},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 5},
        "number": {"type": "integer", "minimum": 0, "maximum": 1000},
        "address": {
            "type": "object",
            "properties": {
                "street": {"type": "string", "maxLength": 40},
                "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
                "kind": {"enum": ["home", "work", "other"]},
            },
            "required": ["street", "zip", "kind"],
            "additionalProperties": False,
        },
    },
    "required": ["id", "name", "tags", "number", "address"],
    "additionalProperties": False,
}
ORDERS = {"type": "array", "items": ORDER, "minItems": 100}
TEXTS = {"type": "array", "items": {"type": "string", "minLength": 200, "maxLength": 300}, "minItems": 100}


def long_schema(number: int) -> Mapping[str, Any]:
    """Some 200 lines, no two numbers alike."""
    properties = {
        f"field_{number}_{i}": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "maxLength": 30},
                "count": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "kind": {"enum": ["p", "q", f"r{number}"]},
            },
            "required": ["text", "count"],
            "additionalProperties": False,
        }
        for i in range(7)
    }
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


def with_format(server: Server, schema: Mapping[str, Any]) -> Server:
    """The same server, asked for answers in a format."""
    plain = server.wire

    def body(prompt: Prompt, max_tokens: int) -> Mapping[str, Any]:
        return {**plain.body(prompt, max_tokens), "format": schema}

    return dataclasses.replace(server, wire=dataclasses.replace(plain, body=body))


async def arrivals(server: Server, *, are_new: bool, number: int, count: int) -> tuple[float, float]:
    """Milliseconds: the median first token of `count` requests with long schemas, one after the other, and the
    longest gap of the streams that ran beside them."""
    prompts = make_prompts(RUNNING, PROMPT_TOKENS, seed=80_000 + number)
    firsts = []
    async with contextlib.AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(running_stream(server, prompt, RUNNING_NEW_TOKENS)) for prompt in prompts
        ]
        begin = max(times[-1] for times in running)
        for i in range(count):
            (prompt,) = make_prompts(1, PROMPT_TOKENS, seed=90_000 + 1000 * number + i)
            asked = with_format(server, long_schema(1000 * number + i if are_new else 0))
            firsts.append(await ask(server.port, asked.wire.path, asked.wire.body(prompt, 2), asked.wire.read))
        gaps = [b - a for times in running for a, b in itertools.pairwise(t for t in times if t >= begin)]
    first_ms = sorted(1000 * stream.first_token_s for stream in firsts)
    return first_ms[len(first_ms) // 2], 1000 * max(gaps)


def arrival_rows(server: Server, rounds: int, count: int, case: str) -> list[Row]:
    """Both kinds of arrivals in turn."""
    found: dict[str, list[tuple[float, float]]] = {KNOWN: [], NEW: []}
    for are_new in (False, True):
        asyncio.run(arrivals(server, are_new=are_new, number=1, count=2))
    for number in range(2, rounds + 2):
        for who in found:
            found[who].append(
                asyncio.run(arrivals(server, are_new=who == NEW, number=2 * number + (who == NEW), count=count))
            )
            print(f"{case}, {who}: first token {found[who][-1][0]:.0f} ms, gap {found[who][-1][1]:.0f} ms", flush=True)
    return [
        Row(case=case, who=who, measure=measure, values=tuple(pair[at] for pair in pairs))
        for who, pairs in found.items()
        for at, measure in enumerate((FIRST, GAP))
    ]


def main() -> None:
    """Print and write the table."""
    parser = parser_for(__doc__)
    parser.add_argument("--weights", default="bf16", choices=list(GGUF_KIND))
    arguments = parser.parse_args()
    settle(arguments)
    make_ending_model(arguments.cache)
    new_tokens = QUICK_NEW_TOKENS if arguments.quick else NEW_TOKENS
    streams, coming = f"{arguments.weights}, {STREAMS} streams", f"{arguments.weights}, {NUM_SCHEMAS} schemas come"
    with ours(arguments.cache, arguments.weights, arguments.threads, repo=ENDING_REPO) as server:
        watch = CpuWatch()
        waves = alternate(
            {FREE: server, BOUND: with_format(server, ORDERS), STRINGS: with_format(server, TEXTS)},
            streams,
            rounds=arguments.rounds,
            max_tokens=new_tokens,
            prompts=functools.partial(_prompts, STREAMS),
        )
        rows = rows_of(waves, streams, {RUN: run_rate, DECODE: decode_rate})
        rows += arrival_rows(server, arguments.rounds, 3 if arguments.quick else NUM_SCHEMAS, coming)
        foreign = watch.foreign_cores()
    ratios = []
    for measure in (RUN, DECODE):
        found = medians(rows, streams, measure)
        bound = AT_LEAST if measure == RUN else None
        ratios += [
            Ratio(what=f"{streams}, {measure}, {who} by without", value=found[who] / found[FREE], at_least=bound)
            for who in (BOUND, STRINGS)
        ]
    for measure, most in ((FIRST, MOST_DELAY_MS), (GAP, MOST_GAP_MS)):
        found = medians(rows, coming, measure)
        ratios.append(Ratio(what=f"{coming}, {measure}, new less known", value=found[NEW] - found[KNOWN], at_most=most))
    Report(
        name="structured",
        title="Answers that a JSON Schema binds",
        rows=rows,
        ratios=ratios,
        arguments=kept(arguments),
        versions={},
        foreign_cores=foreign,
    ).publish(arguments.results)


def _prompts(streams: int, number: int) -> list[Prompt]:
    return make_prompts(streams, PROMPT_TOKENS, seed=50_000 + number)


if __name__ == "__main__":
    main()
