"""What comes back: a stream of events that ends in exactly one `Finished` or one raised error."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, Protocol, TypeVar

from hugging_llama.neutral.classification import Activation, ProblemType
from hugging_llama.neutral.messages import ToolCall
from hugging_llama.neutral.models import LoadedModel


class FinishReason(StrEnum):
    """Why a generation ended. A failure is raised, never a reason."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """How a request waited, for its model to have place in memory or for a place in its model's batch. When it came, it
    had this `position`, 1 for the next one, and would probably have to wait for `expected_s` (0.0: nobody knew); of a
    wait for both they are those of the first. It waited for `waited_ns`."""

    position: int
    expected_s: float = 0.0
    waited_ns: int = 0

    def waiting(self, more_ns: int) -> "Queued":
        """After so much more of it."""
        return replace(self, waited_ns=self.waited_ns + more_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first event, Progress apart, of a generation that had to wait or whose prompt was cut, or whose request asks
    for it; counts as in Usage. `queued` is None if it found a place."""

    num_prompt_tokens: int
    num_cached_tokens: int
    num_truncated_tokens: int
    queued: Queued | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a generation is before its first token, for requests that ask for it.

    `load`: its model is not in memory yet; `queue`: it waits for a place, `position` 1 is the next one, probably
    for `expected_s` more (0.0: nobody knows yet); `prompt`: `completed` of `total` tokens of its prompt are computed.
    """

    phase: Literal["load", "queue", "prompt"]
    position: int = 0
    expected_s: float = 0.0
    completed: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token by its bytes, its log-probability, and those of the best tokens in its place, best first."""

    token: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """More of the prompt's tokens with their log-probabilities, in order, before the first delta.

    `first` is the first token of the prompt, in the first of these events alone: it follows nothing, so it has none.
    """

    entries: tuple[TokenLogprob, ...]
    first: bytes | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer. `logprobs`, if asked for, of tokens whose text may come later; then `text` may be empty."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """More of the reasoning that comes before the answer; `logprobs` as in TextDelta, and of tokens that are neither
    reasoning nor answer, such as the mark between the two."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """One whole tool call."""

    call: ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts and engine times.

    `num_cached_tokens` of the prompt were not computed again; `num_thinking_tokens` of the output were reasoning;
    `num_truncated_tokens` were dropped, from a prompt that was too long or from a context that shifted.

    `load_ns`: from the request's arrival at the engine until the model was ready; `prompt_ns`: from there until the
    first token (queueing included in neither: `queue_ns` holds it); `decode_ns`: from the first token to the last.
    """

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    num_thinking_tokens: int = 0
    num_truncated_tokens: int = 0
    load_ns: int = 0
    queue_ns: int = 0
    prompt_ns: int = 0
    decode_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end of a generation. `context` holds prompt and output token ids if the request asked for them; `stop` is the
    stop string that ended it, None for any other end."""

    reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    context: tuple[int, ...] = ()
    stop: str | None = None


GenerateEvent = Progress | Started | PromptLogprobs | TextDelta | ThinkingDelta | ToolCallDelta | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """One vector per input, in order, L2-normalised unless the request says otherwise; float32 values, which real
    models give as an `array`: as Python's floats they would take eight times as much memory.

    `num_truncated_tokens` did not fit of the input that lost the most. `queued` is as in Started: how many requests
    were to have a batch before, and how long its first one did not come.
    """

    vectors: tuple[Sequence[float], ...]
    num_prompt_tokens: int
    num_truncated_tokens: int = 0
    load_ns: int = 0
    queued: Queued | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """The logits of each input, in order, one for each of `labels`; float32 values as in Embeddings.

    `activation` and `problem_type` are what the model's files name, None where they don't; `classification.relevance`
    and `classification.probabilities` apply them. `num_truncated_tokens` and `queued` are as in Embeddings.
    """

    scores: tuple[Sequence[float], ...]
    labels: tuple[str, ...]
    num_prompt_tokens: int
    num_truncated_tokens: int = 0
    activation: Activation | None = None
    problem_type: ProblemType | None = None
    load_ns: int = 0
    queued: Queued | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenized:
    """The ids of a prompt, and what they say if that was asked for, special tokens spelt out."""

    token_ids: tuple[int, ...]
    text: str = ""
    load_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Detokenized:
    """The text of some ids."""

    text: str
    load_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The model is in memory."""

    model: LoadedModel
    load_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """Figures of the engine for /health, /ready and /metrics; counters count since its start.

    `started_ns` is `time.monotonic_ns()` when it began, which tells one engine of this machine from the next,
    `started_at_s` the same by the clock on the wall. `batch_size_counts` counts steps by how many sequences they had:
    up to 1, 2, 4, ..., and at last the larger ones; `load_counts` counts loads by how long they took, up to each of
    LOAD_SECONDS, and at last the longer ones. Models that left to make room for others are `evicted`; they are among
    the `unloaded`.

    `dtype` is what generation models are loaded in, "" for what each is stored in; `has_native_linears`: our own
    kernels compute quantised linear layers; `context_length` is the default.
    """

    pid: int
    device: str
    dtype: str = ""
    has_native_linears: bool = False
    context_length: int = 0
    num_running: int = 0
    num_waiting: int = 0
    num_loaded: int = 0
    kv_used_tokens: int = 0
    kv_retained_tokens: int = 0
    kv_capacity_tokens: int = 0
    steps_total: int = 0
    step_sequences_total: int = 0
    max_batch_size: int = 0
    prompt_tokens_total: int = 0
    cached_tokens_total: int = 0
    output_tokens_total: int = 0
    cancelled_total: int = 0
    preempted_total: int = 0
    drafted_tokens_total: int = 0
    accepted_tokens_total: int = 0
    batch_size_counts: tuple[int, ...] = ()
    load_counts: tuple[int, ...] = ()
    load_seconds_total: float = 0.0
    failed_loads_total: int = 0
    unloaded_total: int = 0
    evicted_total: int = 0
    started_ns: int = 0
    started_at_s: float = 0.0


LOAD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


EventT_co = TypeVar("EventT_co", covariant=True)


class EventStream(Protocol[EventT_co]):
    """The answer to one request.

    Iterating blocks until the next event and raises a HuggingLlamaError if the request failed. `close` ends the
    request early and frees what it holds; it may be called at any time, from any thread or greenlet, more than once,
    and makes a blocked `next` stop. A stream that is neither exhausted nor closed keeps the engine working.
    """

    def __iter__(self) -> Iterator[EventT_co]: ...

    def __next__(self) -> EventT_co: ...

    def close(self) -> None: ...


class AnswerStream(EventStream[GenerateEvent], Protocol):
    """What a model writes; of several at once those can be read that have something to read."""

    @property
    def is_ready(self) -> bool:
        """Whether `next` would not wait."""
        ...

    @property
    def late_in_s(self) -> float:
        """How long `next` would wait before it raises, infinite for ever."""
        ...

    def listen(self, bell: Callable[[], None]) -> None:
        """`bell` is called, from whatever thread, each time that the stream may have become ready."""
        ...
