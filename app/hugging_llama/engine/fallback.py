"""The runner for what can't be batched: transformers' own `generate`, one sequence after the other, callers in turn.

`generate` only carries the model's state from token to token here. Our logits processor samples with the same code
as the batched runner and leaves `generate` no choice, so options, seeds and grammars work alike. Beam search alone
is `generate`'s, on logits that our options have changed; its text comes at the end, in one piece.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel, StoppingCriteria

from hugging_llama.engine.attention import ATTENTION_NAME
from hugging_llama.engine.beam_search import BeamLogits, beam_options, check_beams
from hugging_llama.engine.compute_lock import ComputeLock
from hugging_llama.engine.layer_hooks import before_layers, layers_of
from hugging_llama.engine.lora.rows import adapted
from hugging_llama.engine.model_runner import compute_guard, max_positions, vocab_size
from hugging_llama.engine.outbox import as_generation_error
from hugging_llama.engine.prompt_logprobs import prompt_logits, told_prompt
from hugging_llama.engine.query_blocks import query_blocks
from hugging_llama.engine.queue_pace import QueuePace
from hugging_llama.engine.runner_thread import RunnerThread
from hugging_llama.engine.sampling import sample
from hugging_llama.engine.sequence import Emit, OnFinished, Sequence, SequenceStatus
from hugging_llama.engine.stats import RunnerStats
from hugging_llama.engine.turns import CallerQueue
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.events import FinishReason


class GenerateRunner(RunnerThread):
    """Runs one sequence at a time. The thread must be started with `start`.

    A cancel takes effect before the model's next layer or block of attention, and another model's step comes between
    two tokens, while a prompt is computed between two layers or blocks.
    """

    kind = "generate"

    def __init__(
        self, model: PreTrainedModel, *, max_queue: int, emit: Emit, on_finished: OnFinished, name: str
    ) -> None:
        super().__init__(
            vocab_size=vocab_size(model),
            max_positions=max_positions(model),
            emit=emit,
            on_finished=on_finished,
            name=name,
        )
        self._model = model
        self._max_queue = max_queue
        self._waiting: CallerQueue[Sequence] = CallerQueue(lambda sequence: sequence.caller)
        self._pace = QueuePace(1)
        self._current: Sequence | None = None
        self._is_in_prompt = False
        self._guard = compute_guard(model.device)
        # the model's own sampling defaults are the caller's to merge; here they would act behind its back
        model.generation_config = structural_part(model.generation_config)

    def stats(self) -> RunnerStats:
        """A snapshot of the runner's figures; KV figures are 0, transformers manages its own cache."""
        with self._lock:
            return self._counters.snapshot(num_running=int(self._current is not None), num_waiting=len(self._waiting))

    def _check(self, sequence: Sequence) -> None:
        super()._check(sequence)
        check_beams(sequence)

    def _accept(self, sequence: Sequence) -> None:
        num_waiting = len(self._waiting)
        if not self._waiting.has_room(sequence.caller, self._max_queue + (self._current is None)):
            raise self._pace.busy("the request queue is full", num_waiting, num_waiting)
        self._waiting.append(sequence)
        if num_waiting or self._current is not None:
            place = 1 + list(self._waiting.in_turn()).index(sequence)
            sequence.queued = sequence.queued or self._pace.at(place)

    def _live(self) -> Iterable[Sequence]:
        return (*(() if self._current is None else (self._current,)), *self._waiting)

    def _release(self, sequence: Sequence) -> None:
        if sequence is self._current:
            self._current = None
        elif sequence in self._waiting:
            self._waiting.remove(sequence)

    def _step(self) -> None:
        with self._lock:
            sequence = self._waiting.first()
            if sequence is None:
                return
            self._waiting.take(sequence)
            self._current = sequence
            sequence.status = SequenceStatus.RUNNING
            sequence.admitted_ns = time.monotonic_ns()
            self._is_in_prompt = True
            if sequence.progress is not None:
                self._outbox.add(
                    sequence, sequence.progress.in_prompt(0, sequence.num_prompt_tokens, sequence.admitted_ns)
                )
            self._tell_waiting()
        self._outbox.flush()
        self._counters.prompt_tokens += sequence.num_prompt_tokens
        try:
            with self._guard, torch.inference_mode():
                self._generate(sequence)
        except Exception as error:
            self._outbox.fail(sequence, as_generation_error(error))
        # a model with a `generate` of its own may have limits that we don't know
        self._outbox.end(sequence, FinishReason.LENGTH)
        with self._lock:
            self._release(sequence)
            self._pace.observe((time.monotonic_ns() - sequence.admitted_ns) / 1e9)

    def _tell_waiting(self) -> None:
        """Called with the lock held."""
        self._tell_queue(self._waiting, self._waiting.in_turn, self._pace)

    def _generate(self, sequence: Sequence) -> None:
        device = self._model.device
        prompt = torch.tensor([sequence.prompt_token_ids], device=device)
        beams = beam_options(sequence)
        follow = BeamLogits(sequence, self._before_token) if beams else _Follow(self, sequence)
        config: Any = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            max_new_tokens=max(sequence.num_needed_tokens - sequence.num_prompt_tokens, 1),
            pad_token_id=0,
            disable_compile=True,
            # ours attends to keys that lie in order, as they do in a cache that grows
            cache_implementation="dynamic" if self._model.config._attn_implementation == ATTENTION_NAME else None,
            **(beams or {"num_beams": 1}),
        )
        generate: Any = self._model.generate
        look_around = partial(self._look_around, sequence)
        with (
            adapted(sequence.adapter),
            before_layers(layers_of(self._model), look_around),
            query_blocks([sequence.num_needed_tokens], device, look_around),
            suppress(_EndedError),
        ):
            self._tell_prompt(sequence)
            out = generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=config,
                logits_processor=[follow],
                stopping_criteria=[_Stop(sequence)],
            )
            if beams:
                self._take_all(sequence, out[0, prompt.shape[1] :].tolist())

    def _tell_prompt(self, sequence: Sequence) -> None:
        """What the caller wants to know of the prompt. Raises _EndedError if that is all."""
        if sequence.prompt_logprobs is None:
            return
        for logits in prompt_logits(self._model, sequence.prompt_token_ids):
            self._outbox.add(sequence, sequence.tell_prompt(told_prompt(sequence, logits)))
            self._outbox.flush()
        if sequence.wants_no_token:
            self._outbox.end(sequence, FinishReason.LENGTH)
            raise _EndedError

    def _take_all(self, sequence: Sequence, token_ids: list[int]) -> None:
        for token_id in token_ids:
            if sequence.is_finished:
                return
            self._append(sequence, token_id)

    def _end_if_asked(self, sequence: Sequence) -> None:
        """Raises _EndedError, through all of `generate`, once the sequence has ended."""
        with self._lock:
            if self._closing:
                self._outbox.end(sequence, FinishReason.SHUTDOWN)
            self._end_early()
        if sequence.is_finished:
            raise _EndedError

    def _look_around(self, sequence: Sequence) -> None:
        self._clock.restart()
        self._end_if_asked(sequence)
        if self._is_in_prompt:
            self._yield_turn()

    def _before_token(self, sequence: Sequence) -> None:
        """Between two steps of a beam search."""
        self._is_in_prompt = False
        self._end_if_asked(sequence)
        self._counters.count_step(1)
        self._yield_turn()

    def _yield_turn(self) -> None:
        """Hands the compute lock to another model's thread if one waits."""
        if isinstance(self._guard, ComputeLock):
            self._guard.yield_turn()

    def next_token(self, sequence: Sequence, logits: Tensor) -> int | None:
        """Samples, updates the sequence and emits; None if that failed. `logits` `[1, vocab_size]`.

        Called from within `generate`, with the compute lock held. Raises _EndedError if the sequence has ended.
        """
        self._is_in_prompt = False
        self._end_if_asked(sequence)
        result = sample(logits, [sequence])[0]
        self._counters.count_step(1)
        token_id: int | None = None
        if isinstance(result, HuggingLlamaError):
            self._outbox.fail(sequence, result)
        else:
            token_id = result
            self._append(sequence, result)
        with self._lock:
            self._tell_waiting()
        self._outbox.flush()
        self._yield_turn()
        return token_id

    def _append(self, sequence: Sequence, token_id: int) -> None:
        self._counters.output_tokens += 1
        try:
            self._outbox.add(sequence, sequence.append_token(token_id, time.monotonic_ns()))
        except Exception as error:
            self._outbox.fail(sequence, as_generation_error(error))
            return
        if sequence.finish_reason is not None:
            self._outbox.end(sequence, sequence.finish_reason)


class _EndedError(Exception):
    """Leaves `generate`: the sequence has had its end."""


class _Follow(LogitsProcessor):
    """Samples with our own code and leaves `generate` one token to choose."""

    def __init__(self, runner: GenerateRunner, sequence: Sequence) -> None:
        self._runner = runner
        self._sequence = sequence

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` `[1, vocab_size]`; the tokens so far are known already."""
        # on a GPU `generate` asks once more after the end, since it looks at stopping criteria one step late
        token_id = None if self._sequence.is_finished else self._runner.next_token(self._sequence, scores)
        forced = torch.full_like(scores, -torch.inf)
        forced[0, token_id or 0] = 0.0
        return forced


class _Stop(StoppingCriteria):
    """Ends `generate` when our sequence has ended."""

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """`[1]`, true if the sequence has ended."""
        return torch.full((1,), self._sequence.is_finished, dtype=torch.bool, device=input_ids.device)


def structural_part(config: GenerationConfig | None) -> GenerationConfig:
    """What `generate` needs to know of the model itself, without any choice of how to sample."""
    if config is None:
        return GenerationConfig()  # type: ignore[no-untyped-call]
    return GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=config.bos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
        cache_implementation=config.cache_implementation,
    )
