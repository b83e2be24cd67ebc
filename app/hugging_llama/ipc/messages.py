"""What crosses the socket between a web worker and the engine.

Every struct travels as an array `[tag, field, ...]`, so that a token costs a few bytes and its types are checked in
C while it is decoded. Web workers send commands, one a frame; the engine answers with items, all those of one decode
step for one connection in one frame. Request ids are chosen by the web worker and mean something on its connection
only. Values of unknown shape (arguments of tool calls, JSON Schemas, an error's facts) travel as JSON text: whole
numbers of any size and lone surrogates survive it, in msgpack they do not.
"""

from typing import Literal

from msgspec import Struct

from hugging_llama.ipc.wire_prompts import WirePrompt, WireToolCall
from hugging_llama.neutral.callers import Caller
from hugging_llama.neutral.classification import Activation, ProblemType
from hugging_llama.neutral.events import EngineStatus, FinishReason, Progress, Queued, Usage
from hugging_llama.neutral.models import LoadedModel, ModelRef
from hugging_llama.neutral.requests import (
    ClassifyRequest,
    DetokenizeRequest,
    EmbedRequest,
    LoadRequest,
    SamplingParams,
)

PROTOCOL_VERSION = 11


class WireFormat(Struct, array_like=True, frozen=True):
    """An OutputFormat: its class by a word, and its texts."""

    kind: Literal["object", "schema", "regex", "choice", "lark"]
    texts: tuple[str, ...]


class WireGenerate(Struct, array_like=True, frozen=True):
    """A GenerateRequest."""

    model: ModelRef
    prompt: WirePrompt
    sampling: SamplingParams
    format: WireFormat | None
    context_length: int | None
    keep_alive_s: float | None
    truncate: bool
    shift: bool
    return_context: bool
    tells_start: bool
    tells_progress: bool
    prompt_logprobs: int | None
    caller: Caller


class WireTokenize(Struct, array_like=True, frozen=True):
    """A TokenizeRequest."""

    model: ModelRef
    prompt: WirePrompt
    add_special_tokens: bool
    return_text: bool
    context_length: int | None
    keep_alive_s: float | None
    caller: Caller


class Hello(Struct, array_like=True, frozen=True, tag=1):
    """The first frame. The engine refuses another version or other settings."""

    version: int
    fingerprint: str
    pid: int


class Generate(Struct, array_like=True, frozen=True, tag=2):
    """Start a generation."""

    request_id: int
    request: WireGenerate


class Embed(Struct, array_like=True, frozen=True, tag=3):
    """Make vectors."""

    request_id: int
    request: EmbedRequest


class Load(Struct, array_like=True, frozen=True, tag=4):
    """Load or touch a model."""

    request_id: int
    request: LoadRequest


class Unload(Struct, array_like=True, frozen=True, tag=5):
    """Unload a model when its last request ends; has no answer."""

    model: ModelRef


class Cancel(Struct, array_like=True, frozen=True, tag=6):
    """End a request that nobody waits for; has no answer, and an unknown id is fine."""

    request_id: int


class ListLoaded(Struct, array_like=True, frozen=True, tag=7):
    """Which models are in memory?"""

    request_id: int


class AskStatus(Struct, array_like=True, frozen=True, tag=8):
    """How is the engine?"""

    request_id: int


class Tokenize(Struct, array_like=True, frozen=True, tag=9):
    """Text or a chat to token ids."""

    request_id: int
    request: WireTokenize


class Detokenize(Struct, array_like=True, frozen=True, tag=10):
    """Token ids to text."""

    request_id: int
    request: DetokenizeRequest


class Classify(Struct, array_like=True, frozen=True, tag=11):
    """Score texts or pairs."""

    request_id: int
    request: ClassifyRequest


Command = Hello | Generate | Embed | Load | Unload | Cancel | ListLoaded | AskStatus | Tokenize | Detokenize | Classify


class WireLogprob(Struct, array_like=True, frozen=True):
    """A TokenLogprob; those of `top` have no `top` of their own."""

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...]


class TextItem(Struct, array_like=True, frozen=True, tag=0):
    """A TextDelta."""

    request_id: int
    text: str
    logprobs: tuple[WireLogprob, ...] = ()


class ThinkingItem(Struct, array_like=True, frozen=True, tag=1):
    """A ThinkingDelta."""

    request_id: int
    text: str
    logprobs: tuple[WireLogprob, ...] = ()


class ToolCallItem(Struct, array_like=True, frozen=True, tag=2):
    """A ToolCallDelta."""

    request_id: int
    call: WireToolCall


class FinishedItem(Struct, array_like=True, frozen=True, tag=3):
    """A Finished."""

    request_id: int
    reason: FinishReason
    usage: Usage
    context: tuple[int, ...]
    stop: str | None


class EmbeddingsItem(Struct, array_like=True, frozen=True, tag=4):
    """An Embeddings; each vector is its float32 values in this machine's byte order."""

    request_id: int
    vectors: tuple[bytes, ...]
    num_prompt_tokens: int
    num_truncated_tokens: int
    load_ns: int
    queued: Queued | None


class LoadedItem(Struct, array_like=True, frozen=True, tag=5):
    """A Loaded."""

    request_id: int
    model: LoadedModel
    load_ns: int


class LoadedModelsItem(Struct, array_like=True, frozen=True, tag=6):
    """The answer to ListLoaded."""

    request_id: int
    models: tuple[LoadedModel, ...]


class StatusItem(Struct, array_like=True, frozen=True, tag=7):
    """The answer to AskStatus."""

    request_id: int
    status: EngineStatus


class ErrorItem(Struct, array_like=True, frozen=True, tag=8):
    """A request that failed; id 0 means the connection itself. `facts` is JSON text."""

    request_id: int
    code: str
    message: str
    facts: str


class HelloItem(Struct, array_like=True, frozen=True, tag=9):
    """The engine's answer to Hello; its request id is 0."""

    request_id: int
    version: int
    fingerprint: str
    pid: int
    is_first: bool


class StartedItem(Struct, array_like=True, frozen=True, tag=10):
    """A Started."""

    request_id: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_truncated_tokens: int
    queued: Queued | None


class PromptLogprobsItem(Struct, array_like=True, frozen=True, tag=11):
    """A PromptLogprobs."""

    request_id: int
    entries: tuple[WireLogprob, ...]
    first: bytes | None


class TokenizedItem(Struct, array_like=True, frozen=True, tag=12):
    """A Tokenized."""

    request_id: int
    token_ids: tuple[int, ...]
    text: str
    load_ns: int


class DetokenizedItem(Struct, array_like=True, frozen=True, tag=13):
    """A Detokenized."""

    request_id: int
    text: str
    load_ns: int


class ClassifiedItem(Struct, array_like=True, frozen=True, tag=14):
    """A Classified; the scores of each input are their float32 values in this machine's byte order."""

    request_id: int
    scores: tuple[bytes, ...]
    labels: tuple[str, ...]
    num_prompt_tokens: int
    num_truncated_tokens: int
    activation: Activation | None
    problem_type: ProblemType | None
    load_ns: int
    queued: Queued | None


class ProgressItem(Struct, array_like=True, frozen=True, tag=15):
    """A Progress."""

    request_id: int
    progress: Progress


Item = (
    TextItem
    | ThinkingItem
    | ToolCallItem
    | FinishedItem
    | EmbeddingsItem
    | LoadedItem
    | LoadedModelsItem
    | StatusItem
    | ErrorItem
    | HelloItem
    | StartedItem
    | PromptLogprobsItem
    | TokenizedItem
    | DetokenizedItem
    | ClassifiedItem
    | ProgressItem
)
