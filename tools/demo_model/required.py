"""Tool calls with and without `tool_choice: required`: `python -m tools.demo_model.required http://127.0.0.1:11434`.

Held-out values and phrasings, greedy, without thinking, through a running server. Of the calls that were asked for: how
many came with the right tool's name, and how many with the right arguments, too.
"""

import argparse
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from tools.demo_model.cases import CASES
from tools.demo_model.draw import Draw
from tools.demo_model.evaluate import SEED
from tools.demo_model.examples import Conversation

MODEL = "hugging-llama/demo"
MAX_TOKENS = 160


def calls(url: str, conversation: Conversation, choice: str) -> list[list[Any]]:
    """Names and arguments of the calls that come."""
    body = {
        "model": MODEL,
        "messages": conversation.messages[:-1],
        "tools": conversation.tools,
        "tool_choice": choice,
        "think": False,
        "stream": False,
        "options": {"temperature": 0, "repeat_penalty": 1.0, "num_predict": MAX_TOKENS},
    }
    response = requests.post(f"{url}/api/chat", json=body, timeout=300)
    response.raise_for_status()
    found = response.json()["message"].get("tool_calls", ())
    return [[call["function"]["name"], call["function"]["arguments"]] for call in found]


def rates(url: str, case: str, *, held_phrases: bool, choice: str, count: int) -> tuple[float, float]:
    """The shares of conversations with the right names, and with the right names and arguments."""
    rng = random.Random(f"{SEED}{case}{held_phrases}")
    drawn = [CASES[case](Draw(rng, held_values=True, held_phrases=held_phrases), False) for _ in range(count)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda conversation: calls(url, conversation, choice), drawn))
    wanted: list[list[list[Any]]] = [conversation.check[1] for conversation in drawn]
    named = sum(
        [name for name, _ in got] == [name for name, _ in want] for got, want in zip(found, wanted, strict=True)
    )
    right = sum(got == want for got, want in zip(found, wanted, strict=True))
    return named / count, right / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("-n", type=int, default=24, help="questions per cell")
    options = parser.parse_args()
    print("| behaviour | phrasing | free: name | all | required: name | all |\n|---|---|---|---|---|---|")
    for case in [case for case in CASES if case.startswith("call_")]:
        for held_phrases in (False, True):
            cells = [
                f"{100 * rate:.0f} %"
                for choice in ("auto", "required")
                for rate in rates(options.url, case, held_phrases=held_phrases, choice=choice, count=options.n)
            ]
            print(f"| {case} | {'new' if held_phrases else 'known'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
