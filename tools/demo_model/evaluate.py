"""Greedy accuracy per behaviour on held-out values: `python -m tools.demo_model.evaluate demo-model`.

Each behaviour is asked in phrasings seen in training and in held-out ones, with thinking off and on.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import argparse
import random
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from tools.demo_model.cases import CASES, THINKING_ONLY, is_correct
from tools.demo_model.draw import Draw
from tools.demo_model.examples import Conversation
from transformers import AutoModelForCausalLM, AutoTokenizer

SEED = 12345
BATCH, MAX_TOKENS = 64, 160
COLUMNS = [(False, False), (False, True), (True, False), (True, True)]
"""(held-out phrasings, thinking)"""


class Runner:
    """Completes prompts greedily."""

    def __init__(self, path: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def prompt(self, conversation: Conversation, think: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                conversation.messages[:-1],
                tools=conversation.tools,
                add_generation_prompt=True,
                enable_thinking=think,
                tokenize=False,
            )
        )

    def complete(self, prompts: list[str]) -> list[str | None]:
        """The text up to the end token, or None where that token never came."""
        found: list[str | None] = [None] * len(prompts)
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for start in range(0, len(prompts), BATCH):
            chosen = by_length[start : start + BATCH]
            for i, text in zip(chosen, self._complete([prompts[i] for i in chosen]), strict=True):
                found[i] = text
        return found

    @torch.inference_mode()
    def _complete(self, prompts: list[str]) -> list[str | None]:
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True)
        ids = self.model.generate(**inputs, do_sample=False, temperature=None, top_p=None, max_new_tokens=MAX_TOKENS)
        texts = self.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :])
        ends = [re.search(r"<\|im_end\|>|<\|endoftext\|>", text) for text in texts]
        return [text[: end.start()] if end else None for text, end in zip(texts, ends, strict=True)]


@dataclass(frozen=True)
class Score:
    rate: float
    misses: list[str]


def score(runner: Runner, case: str, held_phrases: bool, think: bool, count: int) -> Score:
    rng = random.Random(f"{SEED}{case}{held_phrases}{think}")
    drawn = [CASES[case](Draw(rng, held_values=True, held_phrases=held_phrases), think) for _ in range(count)]
    texts = runner.complete([runner.prompt(conversation, think) for conversation in drawn])
    misses: list[str] = []
    for conversation, text in zip(drawn, texts, strict=True):
        thought = re.fullmatch(r"<think>\n(.+?)\n</think>\n\n(.*)", text or "", re.DOTALL)
        answer = thought[2] if thought else text
        if answer is None or bool(thought) != think or not is_correct(conversation.check, answer):
            asked = conversation.messages[-2]["content"]
            misses.append(f"asked {asked!r}, got {text!r}, wanted {conversation.check}")
    return Score(1 - len(misses) / count, misses)


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate the demo model.")
    parser.add_argument("model", type=Path)
    parser.add_argument("-n", type=int, default=64, help="questions per cell")
    parser.add_argument("--only", default="", help="a regular expression for the behaviours")
    parser.add_argument("--misses", type=int, default=0, help="how many misses to print per cell")
    options = parser.parse_args()
    torch.set_num_threads(2)
    runner = Runner(options.model)
    print("| behaviour | seen phrasing | … thinking | new phrasing | … thinking |\n|---|---|---|---|---|", flush=True)
    for case in [c for c in CASES if re.search(options.only, c)]:
        cells, misses = [], []
        for held_phrases, think in COLUMNS:
            if case in THINKING_ONLY and not think:
                cells.append("–")
                continue
            result = score(runner, case, held_phrases, think, options.n)
            cells.append(f"{100 * result.rate:.0f} %")
            misses += [f"  {held_phrases=} {think=}: {miss}" for miss in result.misses[: options.misses]]
        print(f"| {case} | {' | '.join(cells)} |", *misses, sep="\n", flush=True)


if __name__ == "__main__":
    main()
