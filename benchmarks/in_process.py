"""The two peers that are no servers, each in a process of its own: `generate` in threads, and our engine by itself."""

import contextlib
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer

from benchmarks.bench_model import Prompt
from benchmarks.measure import Stream
from hugging_llama.engine.engine import Engine
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.ipc.facade import Answer, Key
from hugging_llama.neutral.events import Finished, TextDelta
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import GenerateRequest, SamplingParams, TextPrompt
from hugging_llama_config.launch import engine_environment
from hugging_llama_config.settings import Settings

RunWave = Callable[[Sequence[Prompt], int], list[Stream]]
"""Runs all prompts at once, so many new tokens each."""

_BANDWIDTH_BYTES, _BANDWIDTH_ROUNDS = 512 * 2**20, 9


class StockGenerate:
    """transformers as it is: a thread a prompt, each in `model.generate`."""

    def __init__(self, snapshot: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model: Any = AutoModelForCausalLM.from_pretrained(snapshot, dtype=torch.bfloat16)

    def __call__(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Stream]:
        """One stream a prompt."""
        streams: list[Stream] = []
        threads = [threading.Thread(target=self._run, args=(prompt, max_tokens, streams)) for prompt in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(streams) != len(prompts):
            raise RuntimeError("a call of generate failed")
        return streams

    def _run(self, prompt: Prompt, max_tokens: int, streams: list[Stream]) -> None:
        ids = torch.tensor([prompt.token_ids])
        clock = _Clock()
        sent_s = time.perf_counter()
        with torch.inference_mode():
            self._model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False, streamer=clock
            )
        # the first call brings the prompt
        times = tuple(clock.times_s[1:])
        streams.append(
            Stream(sent_s=sent_s, token_times_s=times, num_prompt_tokens=ids.shape[1], num_output_tokens=len(times))
        )


class _Clock(BaseStreamer):  # type: ignore[misc,unused-ignore]
    """Notes when `generate` hands out a token."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.times_s.append(time.perf_counter())

    def end(self) -> None:
        pass


class BareEngine:
    """Our engine in this process: no web server, no socket."""

    def __init__(self, snapshot: str, settings: Settings) -> None:
        self._model = ModelRef(name="bench", path=snapshot)
        self._changed = threading.Condition()
        self._answers: dict[Key, list[tuple[float, Answer]]] = {}
        self._num_waves = 0
        self._engine = Engine(settings, self._take)

    def _take(self, items: Sequence[tuple[Key, Answer]]) -> None:
        at = time.perf_counter()
        with self._changed:
            for key, answer in items:
                self._answers[key].append((at, answer))
            self._changed.notify_all()

    def __call__(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Stream]:
        """One stream a prompt. Raises the engine's own errors."""
        sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
        self._num_waves += 1
        self._answers = {(self._num_waves, number): [] for number in range(len(prompts))}
        sent_s: list[float] = []
        for key, prompt in zip(list(self._answers), prompts, strict=True):
            sent_s.append(time.perf_counter())
            self._engine.generate(
                key, GenerateRequest(model=self._model, prompt=TextPrompt(text=prompt.text), sampling=sampling)
            )
        with self._changed:
            self._changed.wait_for(lambda: all(map(_is_over, self._answers.values())))
        return [_stream(sent, answers) for sent, answers in zip(sent_s, self._answers.values(), strict=True)]


def _is_over(answers: Sequence[tuple[float, Answer]]) -> bool:
    return bool(answers) and isinstance(answers[-1][1], Finished | HuggingLlamaError)


def _stream(sent_s: float, answers: Sequence[tuple[float, Answer]]) -> Stream:
    end = answers[-1][1]
    if not isinstance(end, Finished):
        raise end if isinstance(end, HuggingLlamaError) else RuntimeError("a stream without an end")
    return Stream(
        sent_s=sent_s,
        token_times_s=tuple(at for at, answer in answers if isinstance(answer, TextDelta)),
        num_prompt_tokens=end.usage.num_prompt_tokens,
        num_output_tokens=end.usage.num_output_tokens,
    )


def read_bandwidth(threads: int) -> float:
    """Bytes a second of the fastest plain read that torch has, a float32 sum; the median after a first, cold one."""
    torch.set_num_threads(threads)
    numbers = torch.ones(_BANDWIDTH_BYTES // 4)
    times = []
    for _ in range(_BANDWIDTH_ROUNDS + 1):
        start = time.perf_counter()
        numbers.sum()
        times.append(time.perf_counter() - start)
    return _BANDWIDTH_BYTES / statistics.median(times[1:])


def _serve(pipe: Connection, make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    call = make(*arguments)
    pipe.send(None)
    while (job := pipe.recv()) is not None:
        pipe.send(call(*job))


@contextlib.contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    """What a process sees that is started within the block."""
    before = dict(os.environ)
    os.environ.update(added)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def in_process(
    make: Callable[..., Callable[..., Any]], *arguments: Any, environ: Mapping[str, str] | None = None
) -> Iterator[Callable[..., Any]]:
    """`make(*arguments)` lives in a fresh process until the block ends; what is yielded calls it there.

    That process sees `environ` beside this one's variables, in time for libraries that read it when they are loaded.
    Raises EOFError if that process fails; its traceback is on standard error.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
    with _environment(environ or {}):
        process.start()
    theirs.close()

    def call(*job: Any) -> Any:
        ours.send(job)
        return ours.recv()

    try:
        ours.recv()
        yield call
        ours.send(None)
        process.join(30)
    finally:
        process.kill()


def stock_generate(snapshot: Path, threads: int) -> contextlib.AbstractContextManager[RunWave]:
    """`generate` in threads."""
    return in_process(StockGenerate, str(snapshot), threads)


def bare_engine(snapshot: Path, settings: Settings) -> contextlib.AbstractContextManager[RunWave]:
    """Our engine without its server, in the environment that the server would start it in."""
    return in_process(BareEngine, str(snapshot), settings, environ=engine_environment(settings, os.environ))
