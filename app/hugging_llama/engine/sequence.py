"""The mutable life of one request in the engine, and the seams through which its colleagues plug in."""

import sys
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from hugging_llama.engine.drafts import DraftFinder
from hugging_llama.engine.logit_bias import LogitBias
from hugging_llama.engine.logprobs import TokenBytes, with_logprob
from hugging_llama.engine.progress import ProgressMeter
from hugging_llama.engine.sampling_state import SamplingState
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama.neutral.events import Finished, FinishReason, GenerateEvent, PromptLogprobs, Queued, Started, Usage
from hugging_llama.neutral.requests import SamplingParams

if TYPE_CHECKING:
    from hugging_llama.engine.grammars.bits import Bits
    from hugging_llama.engine.grammars.look_ahead import ForbiddenAfter
    from hugging_llama.engine.kv_cache import KVSlot
    from hugging_llama.engine.lora.adapter import LoraAdapter

_MIN_SHIFT_ROOM = 4
"""A context of fewer tokens behind the kept ones has nothing to shift."""

StreamKey = tuple[int, int]
"""(connection id, request id): where the events of a sequence go."""

StepEvents = list[tuple[StreamKey, GenerateEvent | HuggingLlamaError]]
Emit = Callable[[StepEvents], None]
"""Takes everything one step produced, in order. Called from a runner's own thread; must not block for long."""

OnFinished = Callable[["Sequence"], None]
"""Called once per accepted sequence, from a runner's own thread, after its last event was emitted."""


_MAX_CONTEXTS = 10
"""A model that never stops would fill a shifting context for ever."""


class OutputProcessor(Protocol):
    """Turns output token ids into events: detokenises, holds back stop strings, parses thinking and tools.

    The end-of-sequence token is never pushed. An error raised here ends this sequence and no other.
    """

    def push(self, token_id: int) -> list[GenerateEvent]:
        """The events that one more token completes, often none."""
        ...

    @property
    def num_thinking_tokens(self) -> int:
        """How many of the tokens pushed so far were reasoning."""
        ...

    @property
    def is_aside(self) -> bool:
        """Whether the last token is known to be no part of the answer's text: it was reasoning, or a mark around it."""
        ...

    @property
    def stop(self) -> str | None:
        """The stop string that was found, None while there is none; what lies behind it is never shown."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether nothing more is wanted, whatever the model would say."""
        ...

    def finish(self) -> list[GenerateEvent]:
        """Flushes what was held back. Called once, when generation ends other than by a cancel or an error."""
        ...


class TokenMask(Protocol):
    """A grammar: forbids tokens before sampling and follows what was sampled."""

    def fill(self, bits: "Bits") -> bool:
        """Leaves set in a row of bits, one for each token, what may come next; False if that is everything."""
        ...

    def forced(self) -> list[int]:
        """Tokens that will probably come next because nothing else is allowed; may be empty."""
        ...

    def leads_on(self, token_id: int, forbidden_after: "ForbiddenAfter") -> bool:
        """False where what must follow this token is forbidden: `forbidden_after` tells it of the tokens before it."""
        ...

    def accept(self, token_id: int) -> None:
        """The token was sampled. The end-of-sequence token is never reported."""
        ...

    @property
    def finished(self) -> bool:
        """True once nothing may follow."""
        ...


class SequenceStatus(Enum):
    """Where a sequence is. FINISHED is final: its last event has been decided."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """One request in the engine. Made by the server; from `submit` on, only the runner's thread changes it.

    `token_ids` is the context: prompt and output, without what was shifted out. `context_length` bounds it;
    `max_tokens` None means until the model stops or the context is full. With `shift` the oldest tokens go when the
    context is full, and `max_tokens` None becomes ten contexts, as in Ollama; `num_truncated_tokens` counts what was
    dropped from prompt and context. `prompt_logprobs`: how many alternatives are told of each token of the prompt, None
    for nothing; `num_told_tokens` counts those told. `num_computed_tokens` counts the tokens of the context whose
    keys and values lie in the KV cache. `adapter` changes the model for it, None for no change. `token_bytes` is what
    log-probabilities are told with, None where nobody asks. `progress`: what is told before the first token, None for
    nothing; `queued` is as in Started. Times are `time.monotonic_ns()`, 0 where not reached; `load_ns` is a duration.
    """

    __slots__ = (
        "__weakref__",
        "adapter",
        "admitted_ns",
        "caller",
        "context_length",
        "drafts",
        "eos_token_ids",
        "finish_reason",
        "first_token_ns",
        "grammar",
        "key",
        "kv_slot",
        "last_token_ns",
        "load_ns",
        "max_tokens",
        "num_cached_tokens",
        "num_computed_tokens",
        "num_told_tokens",
        "num_truncated_tokens",
        "output",
        "output_token_ids",
        "progress",
        "prompt_logprobs",
        "prompt_token_ids",
        "queued",
        "return_context",
        "sampling",
        "sampling_state",
        "shift",
        "status",
        "submitted_ns",
        "tells_start",
        "token_bytes",
        "token_ids",
    )

    def __init__(
        self,
        *,
        key: StreamKey,
        prompt_token_ids: list[int],
        sampling: SamplingParams,
        context_length: int,
        output: OutputProcessor,
        eos_token_ids: frozenset[int] = frozenset(),
        grammar: TokenMask | None = None,
        bias: LogitBias | None = None,
        prompt_logprobs: int | None = None,
        token_bytes: TokenBytes | None = None,
        shift: bool = False,
        num_truncated_tokens: int = 0,
        return_context: bool = False,
        tells_start: bool = False,
        tells_progress: bool = False,
        caller: Caller = ANONYMOUS,
        load_ns: int = 0,
    ) -> None:
        self.key = key
        self.caller = caller
        self.prompt_token_ids = prompt_token_ids
        self.output_token_ids: list[int] = []
        self.token_ids = list(prompt_token_ids)
        self.sampling = sampling
        most = _MAX_CONTEXTS * context_length if shift else None
        self.max_tokens = most if sampling.max_tokens is None else sampling.max_tokens
        self.context_length = context_length
        self.adapter: LoraAdapter | None = None
        self.shift = shift
        self.num_truncated_tokens = num_truncated_tokens
        self.output = output
        self.eos_token_ids = eos_token_ids
        self.grammar = grammar
        self.return_context = return_context
        self.tells_start = tells_start
        self.progress = ProgressMeter() if tells_progress else None
        self.sampling_state = SamplingState(sampling, prompt_token_ids, bias)
        self.prompt_logprobs = prompt_logprobs
        self.token_bytes = token_bytes
        self.drafts = DraftFinder(sampling.num_draft_tokens) if sampling.num_draft_tokens > 0 else None
        self.status = SequenceStatus.WAITING
        self.finish_reason: FinishReason | None = None
        self.kv_slot: KVSlot | None = None
        self.num_computed_tokens = self.num_cached_tokens = self.num_told_tokens = 0
        self.queued: Queued | None = None
        self.load_ns = load_ns
        self.submitted_ns = self.admitted_ns = self.first_token_ns = self.last_token_ns = 0

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.prompt_token_ids)

    @property
    def num_tokens(self) -> int:
        """The context's length now."""
        return len(self.token_ids)

    @property
    def num_needed_tokens(self) -> int:
        """The most tokens it can ever hold in the KV cache, at least its prompt."""
        most = self.context_length
        if self.max_tokens is not None:
            most = min(most, self.num_prompt_tokens + self.max_tokens)
        return max(most, self.num_prompt_tokens)

    @property
    def is_finished(self) -> bool:
        return self.status is SequenceStatus.FINISHED

    def append_token(self, token_id: int, now_ns: int) -> list[GenerateEvent]:
        """Takes the sampled token and returns what it shows; sets `finish_reason` if it was the last one.

        Raises whatever the output processor or the grammar raises.
        """
        started = self._started()
        if not self.output_token_ids:
            self.first_token_ns = now_ns
        self.last_token_ns = now_ns
        self.output_token_ids.append(token_id)
        self.token_ids.append(token_id)
        if token_id in self.eos_token_ids:
            self.finish_reason = FinishReason.STOP
            return started
        self.sampling_state.accept(token_id)
        if self.grammar is not None:
            self.grammar.accept(token_id)
        events = self.output.push(token_id)
        if self.token_bytes is not None and (logprob := self.sampling_state.logprob) is not None:
            events = with_logprob(events, logprob.entry(self.token_bytes), is_aside=self.output.is_aside)
        if self.output.is_whole or self.output.stop is not None or (self.grammar and self.grammar.finished):
            self.finish_reason = FinishReason.STOP
        elif self._is_full():
            self.finish_reason = FinishReason.LENGTH
        return started + events

    @property
    def first_untold_position(self) -> int:
        """The first place whose logits tell of a prompt token that has not been told, beyond all if none is left.

        Logits of a place are about the token that follows.
        """
        if self.prompt_logprobs is None or self.num_told_tokens >= self.num_prompt_tokens:
            return sys.maxsize
        return max(self.num_told_tokens - 1, 0)

    @property
    def wants_no_token(self) -> bool:
        return self.max_tokens is not None and self.max_tokens <= 0

    def tell_prompt(self, told: PromptLogprobs) -> list[GenerateEvent]:
        """Takes note of what is told of the next tokens of the prompt, which may be all that is wanted: until a first
        token comes, this is the moment that the prompt has taken."""
        self.first_token_ns = self.last_token_ns = time.monotonic_ns()
        events = [*self._started(), told]
        self.num_told_tokens += len(told.entries) + (told.first is not None)
        return events

    def _started(self) -> list[GenerateEvent]:
        """Before everything else, where it had to wait, the prompt was cut or somebody asks."""
        is_first = not self.output_token_ids and not self.num_told_tokens
        if not is_first or not (self.tells_start or self.num_truncated_tokens or self.queued):
            return []
        return [
            Started(
                num_prompt_tokens=self.num_prompt_tokens,
                num_cached_tokens=self.num_cached_tokens,
                num_truncated_tokens=self.num_truncated_tokens,
                queued=self.queued and self.queued.waiting(self._queue_ns),
            )
        ]

    @property
    def _queue_ns(self) -> int:
        """A sequence that was never admitted has only queued."""
        queued_until = self.admitted_ns or time.monotonic_ns()
        return max(queued_until - self.submitted_ns, 0) if self.submitted_ns else 0

    def _is_full(self) -> bool:
        if self.max_tokens is not None and len(self.output_token_ids) >= self.max_tokens:
            return True
        return self.num_tokens >= self.context_length and not self._can_shift

    @property
    def _num_kept_tokens(self) -> int:
        """A negative `num_keep` is the whole prompt."""
        kept = self.sampling.num_keep
        return self.num_prompt_tokens if kept < 0 else min(kept, self.num_prompt_tokens)

    @property
    def _can_shift(self) -> bool:
        return self.shift and self.context_length - self._num_kept_tokens >= _MIN_SHIFT_ROOM

    def shift_if_full(self) -> None:
        """Where the context is full, drops half of what follows its first `num_keep` tokens, as llama.cpp does.

        What remains moves to earlier positions and is computed anew.
        """
        if self.num_tokens < self.context_length or not self._can_shift:
            return
        kept = self._num_kept_tokens
        num_dropped = (self.num_tokens - kept) // 2
        del self.token_ids[kept : kept + num_dropped]
        self.num_truncated_tokens += num_dropped
        self.num_computed_tokens = min(self.num_computed_tokens, kept)
        if self.drafts is not None:
            self.drafts.restart()

    def finished_event(self, reason: FinishReason) -> Finished:
        """The last event, with the counts and times so far."""
        context = (*self.prompt_token_ids, *self.output_token_ids) if self.return_context else ()
        return Finished(reason=reason, usage=self.usage(), context=context, stop=self.output.stop)

    def usage(self) -> Usage:
        """Counts and times so far."""
        return Usage(
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=self.num_cached_tokens,
            num_output_tokens=len(self.output_token_ids),
            num_thinking_tokens=self.output.num_thinking_tokens,
            num_truncated_tokens=self.num_truncated_tokens,
            load_ns=self.load_ns,
            queue_ns=self._queue_ns,
            prompt_ns=max(self.first_token_ns - self.admitted_ns, 0),
            decode_ns=max(self.last_token_ns - self.first_token_ns, 0),
        )
