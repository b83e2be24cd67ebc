"""The second turn of a chat with 2,000 tokens of history, against the same chat when the server has never seen it.

python -m benchmarks.second_turn
"""

import asyncio
from collections.abc import Mapping, Sequence

from benchmarks.bench_model import REPO, make_prompts
from benchmarks.client import ask, chat_body
from benchmarks.measure import CpuWatch, Stream
from benchmarks.options import kept, parser_for, settle
from benchmarks.peers import GGUF_KIND, OURS, Server, ours
from benchmarks.report import Ratio, Report, Row

HISTORY_TOKENS, ANSWER_TOKENS, QUESTION_TOKENS, SECOND_ANSWER_TOKENS = 2000, 32, 16, 2
AT_MOST = 0.1

Messages = Sequence[Mapping[str, str]]


def chat(server: Server, messages: Messages, max_tokens: int) -> Stream:
    """One turn."""
    return asyncio.run(ask(server.port, "/api/chat", chat_body(REPO, messages, max_tokens), server.wire.read))


def second_turn(first: str, answer: str, question: str) -> Messages:
    """A chat in which the model has answered once."""
    return [
        {"role": "user", "content": first},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": question},
    ]


def run_round(server: Server, number: int) -> tuple[float, float]:
    """Seconds to the first token, cold and as a second turn; two chats of the same size with nothing in common."""
    first, other = (prompt.text for prompt in make_prompts(2, HISTORY_TOKENS, seed=30_000 + number))
    question = make_prompts(1, QUESTION_TOKENS, seed=40_000 + number)[0].text
    (other_answer,) = make_prompts(1, ANSWER_TOKENS, seed=50_000 + number)
    cold = chat(server, second_turn(other, other_answer.text, question), SECOND_ANSWER_TOKENS)
    answer = chat(server, [{"role": "user", "content": first}], ANSWER_TOKENS)
    warm = chat(server, second_turn(first, answer.text, question), SECOND_ANSWER_TOKENS)
    print(f"round {number}: cold {1000 * cold.first_token_s:.0f} ms, second turn {1000 * warm.first_token_s:.0f} ms")
    return cold.first_token_s, warm.first_token_s


def main() -> None:
    """Print and write the table."""
    parser = parser_for(__doc__)
    parser.add_argument("--weights", default="bf16", choices=list(GGUF_KIND))
    arguments = parser.parse_args()
    settle(arguments)
    with ours(arguments.cache, arguments.weights, arguments.threads) as server:
        run_round(server, 0)
        watch = CpuWatch()
        times = [run_round(server, number) for number in range(1, arguments.rounds + 1)]
        foreign = watch.foreign_cores()
    case, measure = f"{arguments.weights}, {HISTORY_TOKENS} tokens of history", "first token, ms"
    cold = Row(case=case, who=f"{OURS}, cold", measure=measure, values=tuple(1000 * at for at, _ in times))
    warm = Row(case=case, who=f"{OURS}, second turn", measure=measure, values=tuple(1000 * at for _, at in times))
    Report(
        name="second_turn",
        title="Second turn of a chat",
        rows=[cold, warm],
        ratios=[Ratio(what=f"{case}, second turn by cold", value=warm.median / cold.median, at_most=AT_MOST)],
        arguments=kept(arguments),
        versions={},
        foreign_cores=foreign,
    ).publish(arguments.results)


if __name__ == "__main__":
    main()
