"""How fast a server answers: one stream, several at once, the first token, a long prompt."""

import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.errors import CliError, ServerError
from hugging_llama_config.client import ClientSettings

# common words, a token each to most tokenizers
_WORDS = (
    "the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "as", "with", "his", "they", "at",
    "be", "this", "from", "have", "or", "by", "one", "had", "not", "but", "what", "all", "were", "when", "we", "there",
    "can", "an", "your", "which", "their", "said", "if", "do", "will", "each", "about", "how", "up", "out", "them",
)  # fmt: skip
_TOKENS_PER_WORD = 1.1
_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server and the model to ask there."""

    settings: ClientSettings
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked: `streams` at once, `tokens` of each, and a prompt of about `prompt_tokens` for its speed."""

    streams: int
    tokens: int
    prompt_tokens: int
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer as its client saw it, in seconds of one clock; the counts are the server's."""

    sent_s: float
    first_s: float
    last_s: float
    num_prompt_tokens: int
    num_tokens: int


@dataclass(slots=True)
class Figures:
    """One figure a round of each kind. Rates are tokens a second from the first request sent to the last token, times
    seconds."""

    single: list[float] = field(default_factory=list)
    single_first_s: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    together_first_s: list[float] = field(default_factory=list)
    prompt: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        """The middle one of each kind."""
        return {kind.name: statistics.median(getattr(self, kind.name)) for kind in fields(self)}


def measure(targets: Sequence[Target], load: Load, say: Callable[[str], None]) -> list[Figures]:
    """Ask the targets in turn, round by round, so that what happens to the machine happens to all. Raises CliError."""
    found = [Figures() for _ in targets]
    source = random.Random()
    for target in targets:
        say(f"loading {target.model} at {target.settings.url}")
        Server(target.settings).post("/api/generate", {"model": target.model, "prompt": "", "stream": False})
        _wave(target, [_prompt(source, 8)], 4)
    for number in range(1, load.rounds + 1):
        for target, figures in zip(targets, found, strict=True):
            where = f"round {number} of {load.rounds}" + (f", {target.settings.url}" if len(targets) > 1 else "")
            say(f"{where}: one stream")
            (alone,) = _wave(target, [_prompt(source, 16)], load.tokens)
            figures.single.append(_rate(alone.num_tokens, alone.last_s - alone.sent_s))
            figures.single_first_s.append(alone.first_s - alone.sent_s)
            say(f"{where}: {load.streams} streams")
            wave = _wave(target, [_prompt(source, 16) for _ in range(load.streams)], load.tokens)
            took_s = max(s.last_s for s in wave) - min(s.sent_s for s in wave)
            figures.together.append(_rate(sum(s.num_tokens for s in wave), took_s))
            figures.together_first_s.append(statistics.median(s.first_s - s.sent_s for s in wave))
            say(f"{where}: a prompt of {load.prompt_tokens} tokens")
            (long,) = _wave(target, [_prompt(source, load.prompt_tokens)], 1)
            figures.prompt.append(_rate(long.num_prompt_tokens, long.first_s - long.sent_s))
    return found


def _prompt(source: random.Random, count: int) -> str:
    """About so many tokens, which begin as those of no other prompt do: no cache knows them."""
    return " ".join(source.choices(_WORDS, k=max(6, int(count / _TOKENS_PER_WORD))))


def _wave(target: Target, prompts: Sequence[str], tokens: int) -> list[Sample]:
    """Ask all at once. Raises the first error. Threads that a Ctrl-C leaves behind end with this process."""
    results: list[Sample | CliError | None] = [None] * len(prompts)

    def ask(index: int) -> None:
        try:
            results[index] = _ask(target, prompts[index], tokens)
        except CliError as error:
            results[index] = error

    threads = [threading.Thread(target=ask, args=(index,), daemon=True) for index in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(_POLL_S)
    samples = []
    for result in results:
        if not isinstance(result, Sample):
            raise result or ServerError("a stream ended without an answer")
        samples.append(result)
    return samples


def _ask(target: Target, prompt: str, tokens: int) -> Sample:
    # a server that does not know min_new_tokens may end earlier: what it made is what counts
    options: Mapping[str, object] = {"num_predict": tokens, "min_new_tokens": tokens, "temperature": 0, "seed": 1}
    body: Json = {"model": target.model, "prompt": prompt, "raw": True, "options": options}
    first_s: float | None = None
    sent_s = last_s = time.perf_counter()
    final: Json = {}
    for item in Server(target.settings).stream("/api/generate", body):
        last_s = time.perf_counter()
        if first_s is None and (item.get("response") or item.get("thinking") or item.get("done")):
            first_s = last_s
        final = item
    made, read = final.get("eval_count"), final.get("prompt_eval_count")
    if first_s is None or not isinstance(made, int) or made < 1:
        raise ServerError(f"'{target.model}' at {target.settings.url} made no tokens")
    prompt_tokens = read if isinstance(read, int) else 0
    return Sample(sent_s=sent_s, first_s=first_s, last_s=last_s, num_prompt_tokens=prompt_tokens, num_tokens=made)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 and count > 0 else 0.0
