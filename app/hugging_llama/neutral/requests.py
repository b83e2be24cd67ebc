"""What a caller may ask of the engine. Immutable, checked by the dialect that made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hugging_llama.neutral.messages import Message, Tool
from hugging_llama.neutral.models import ModelRef


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen; the defaults are Ollama's.

    `temperature` 0 is greedy; `top_k` 0 and `top_p`, `typical_p` 1 are off; penalties look back over
    `repeat_last_n` tokens of prompt and output (0 off, -1 the whole context); `seed` None is random;
    `max_tokens` None is until the model stops or the context is full.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 64
    no_repeat_ngram_size: int = 0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    num_keep: int = 4
    num_draft_tokens: int = 0


class OutputFormat(StrEnum):
    """A constraint on the whole answer: free text, or one JSON object."""

    TEXT = "text"
    JSON_OBJECT = "json_object"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPrompt:
    """A conversation, rendered by the model's own template.

    `think` None leaves it to the model (on where it can). `context` are token ids of earlier turns, put in front.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    think: bool | str | None = None
    context: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPrompt:
    """Text that goes to the tokenizer as it is: no template, no parsing of the answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One generation. `keep_alive_s` None keeps what the loaded model has; infinite is for ever, 0 unloads after.

    `context_length` None is the server's default; `truncate` drops the oldest messages of a prompt that is too
    long, otherwise that is a ContextLengthError; `return_context` asks for the token ids in `Finished`.
    """

    model: ModelRef
    prompt: ChatPrompt | TextPrompt
    sampling: SamplingParams = field(default_factory=SamplingParams)
    format: OutputFormat = OutputFormat.TEXT
    context_length: int | None = None
    keep_alive_s: float | None = None
    truncate: bool = True
    return_context: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateCall:
    """What a dialect parsed: a GenerateRequest before its model is known and the model's defaults are merged.

    `options` holds SamplingParams fields by name, only those that the caller gave.
    """

    prompt: ChatPrompt | TextPrompt
    options: Mapping[str, Any] = field(default_factory=dict)
    format: OutputFormat = OutputFormat.TEXT
    context_length: int | None = None
    keep_alive_s: float | None = None
    truncate: bool = True
    return_context: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """Vectors for texts. `dimensions` cuts and normalises again where it is smaller than the model's own."""

    model: ModelRef
    inputs: tuple[str, ...]
    truncate: bool = True
    dimensions: int | None = None
    context_length: int | None = None
    keep_alive_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """Load a model, or touch one that is loaded."""

    model: ModelRef
    context_length: int | None = None
    keep_alive_s: float | None = None
