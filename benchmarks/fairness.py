"""One caller sends many requests, then another one a few: how long the few wait, beside how long they do alone.

python -m benchmarks.fairness --bulk 200 --others 10 --places 16

The engine without its server, with the bundled demo model, in turn in one process: the few alone, the few behind the
many of another caller, and the few behind as many of their own, as it is where nobody tells callers apart.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import hugging_llama
from hugging_llama.engine.engine import Engine
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.ipc.facade import Answer, Key
from hugging_llama.neutral.callers import Caller
from hugging_llama.neutral.events import Finished, TextDelta
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import GenerateRequest, SamplingParams, TextPrompt
from hugging_llama_config.settings import Settings

BULK, FEW = Caller("bulk"), Caller("few")


class Timed:
    """An engine, and when each of its requests had its first token."""

    def __init__(self, places: int, max_tokens: int) -> None:
        self._model = ModelRef(name="demo", path=str(Path(hugging_llama.__file__).parent / "demo_model"))
        self._sampling = SamplingParams(temperature=1.0, min_tokens=max_tokens, max_tokens=max_tokens)
        self._changed = threading.Condition()
        self._first_s: dict[Key, float] = {}
        self._ended: dict[Key, Answer] = {}
        self._num_sent = 0
        settings = Settings(device="cpu", max_num_seqs=places, max_queue=10_000)
        self.engine = Engine(settings, self._take)

    def _take(self, items: Sequence[tuple[Key, Answer]]) -> None:
        now_s = time.perf_counter()
        with self._changed:
            for key, answer in items:
                if isinstance(answer, TextDelta):
                    self._first_s.setdefault(key, now_s)
                if isinstance(answer, Finished | HuggingLlamaError):
                    self._ended[key] = answer
            self._changed.notify_all()

    def send(self, caller: Caller, count: int) -> dict[Key, float]:
        """Sends requests with prompts that have no beginning in common; when each was sent."""
        sent: dict[Key, float] = {}
        for _ in range(count):
            self._num_sent += 1
            key = (1, self._num_sent)
            prompt = TextPrompt(text=f"{self._num_sent} times {self._num_sent * 7} once upon a time there was a farmer")
            sent[key] = time.perf_counter()
            self.engine.generate(
                key, GenerateRequest(model=self._model, prompt=prompt, sampling=self._sampling, caller=caller)
            )
        return sent

    def wait(self, reached: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(reached)

    def wait_for_ends(self, keys: Sequence[Key]) -> None:
        """Raises the first error among them."""
        self.wait(lambda: all(key in self._ended for key in keys))
        for key in keys:
            if isinstance(error := self._ended[key], HuggingLlamaError):
                raise error

    def wait_for_tokens(self, count: int, keys: Sequence[Key]) -> None:
        """Until so many of them have begun."""
        self.wait(lambda: sum(key in self._first_s for key in keys) >= count)

    def waits_s(self, sent: dict[Key, float]) -> list[float]:
        """From each one's sending to its first token."""
        return [self._first_s[key] - at for key, at in sent.items()]


def measure(timed: Timed, *, bulk: int, few: int, bulk_caller: Caller, places: int) -> list[float]:
    """First-token times of the few, who come when the many hold all places; with no `bulk` they are alone."""
    many = timed.send(bulk_caller, bulk)
    timed.wait_for_tokens(min(places, bulk), list(many))
    sent = timed.send(FEW, few)
    timed.wait_for_ends([*sent])
    for key in many:
        timed.engine.cancel(key)
    timed.wait_for_ends([*many])
    return timed.waits_s(sent)


def main() -> None:
    """Print the medians and the longest times of each case, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bulk", type=int, default=200)
    parser.add_argument("--others", type=int, default=10)
    parser.add_argument("--places", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    timed = Timed(arguments.places, arguments.max_tokens)
    timed.wait_for_ends([*timed.send(FEW, 2)])  # loads the model
    cases = {
        "alone": (0, BULK),
        "behind another caller's": (arguments.bulk, BULK),
        "behind their own": (arguments.bulk, FEW),
    }
    found: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(arguments.rounds):
        for case, (bulk, caller) in cases.items():
            found[case] += measure(timed, bulk=bulk, few=arguments.others, bulk_caller=caller, places=arguments.places)
    timed.engine.close()
    print(f"first token of {arguments.others} requests, {arguments.bulk} others, {arguments.places} places")
    base = statistics.median(found["alone"])
    for case, times in found.items():
        middle = statistics.median(times)
        print(f"{case:24} median {middle:7.3f} s, longest {max(times):7.3f} s, {middle / base:6.1f} times alone")
    own, other = (statistics.median(found[case]) for case in ("behind their own", "behind another caller's"))
    print(f"behind another caller's against behind their own: {other / own:.3f}")


if __name__ == "__main__":
    main()
