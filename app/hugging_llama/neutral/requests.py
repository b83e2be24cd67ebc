"""What a caller may ask of the engine. Immutable, checked by the dialect that made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama.neutral.formats import OutputFormat
from hugging_llama.neutral.messages import Message, Tool
from hugging_llama.neutral.models import ModelRef


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen; the defaults are Ollama's.

    `temperature` 0 is greedy; `top_k` 0 and `top_p`, `typical_p` 1 are off, so are `top_h`, `epsilon_cutoff` and
    `eta_cutoff` 0; penalties look back over `repeat_last_n` tokens of prompt and output (0 off, -1 the whole
    context); `seed` None is random.

    `logit_bias`: a token, by id or by its text, and what is added to its logit. `bad_words`: texts or runs of token
    ids that the answer must not hold; `suppress_tokens` never come, `begin_suppress_tokens` not first.

    `max_tokens` None is until the model stops or the context is full; before `min_tokens` no end-of-sequence token
    comes; after `max_thinking_tokens` of reasoning the answer begins. `num_keep` tokens at the start (-1: the whole
    prompt) stay when the prompt is cut or the context shifts.
    `num_draft_tokens` is how many tokens ahead the engine may guess; what comes out is the same. `num_beams` above 1
    is beam search, with `length_penalty` and `early_stopping` (true, false, or "never") as in transformers'
    GenerationConfig.

    `top_logprobs`: how many alternatives come with the log-probability of each token, None for no log-probabilities.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    top_h: float = 0.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 64
    no_repeat_ngram_size: int = 0
    logit_bias: tuple[tuple[int | str, float], ...] = ()
    bad_words: tuple[str | tuple[int, ...], ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    max_thinking_tokens: int | None = None
    stop: tuple[str, ...] = ()
    num_keep: int = 4
    num_draft_tokens: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Whether tools must be called; enforced token by token.

    `auto`: as the model likes; `none`: no tool; `required`: one at least, and the one of this `name` if there is one.
    `parallel` False: one call at most, with which the answer ends.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None
    parallel: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPrompt:
    """A conversation, rendered by the model's own template.

    `think` None leaves it to the model (on where it can). `context` are token ids of earlier turns, put in front.
    `template` is Jinja in place of the model's own, "" for that. `continues`: the last message is the beginning of the
    answer, which goes on from it, where the template has a place for that.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    think: bool | str | None = None
    context: tuple[int, ...] = ()
    template: str = ""
    continues: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPrompt:
    """Text that goes to the tokenizer as it is: no template, no parsing of the answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensPrompt:
    """Token ids that the model gets as they are, with nothing in front."""

    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertPrompt:
    """A gap to fill between two texts. `template` as in a ChatPrompt; one that knows no suffix is not used."""

    prefix: str
    suffix: str
    template: str = ""


Prompt = ChatPrompt | TextPrompt | TokensPrompt | InsertPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One generation. `keep_alive_s` None keeps what the loaded model has; infinite is for ever, 0 unloads after.

    `context_length` None is the server's default; `truncate` drops the oldest messages of a prompt that is too
    long, otherwise that is a ContextLengthError; `shift` lets the oldest tokens go when the answer fills the context,
    otherwise it ends there; `return_context` asks for the token ids in `Finished`.

    `tells_start` asks for Started in any case, `tells_progress` for Progress. `prompt_logprobs` asks for
    PromptLogprobs: how many alternatives come with each token of the prompt, None for none at all. With `max_tokens` 0
    the prompt is then computed all the same, and nothing else.

    Several answers to one prompt are as many requests, each with a seed of its own: all that come while the first one's
    prompt is being computed wait for it and copy its keys and values.
    """

    model: ModelRef
    prompt: Prompt
    sampling: SamplingParams = field(default_factory=SamplingParams)
    format: OutputFormat | None = None
    context_length: int | None = None
    keep_alive_s: float | None = None
    truncate: bool = True
    shift: bool = True
    return_context: bool = False
    tells_start: bool = False
    tells_progress: bool = False
    prompt_logprobs: int | None = None
    caller: Caller = ANONYMOUS

    @property
    def tells_tokens(self) -> bool:
        """Whether log-probabilities are asked for, of the answer's tokens or of the prompt's."""
        return self.sampling.top_logprobs is not None or self.prompt_logprobs is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateCall:
    """What a dialect parsed: a GenerateRequest before its model is known and the model's defaults are merged.

    `options` holds SamplingParams fields by name, only those that the caller gave.
    """

    prompt: Prompt
    options: Mapping[str, Any] = field(default_factory=dict)
    format: OutputFormat | None = None
    context_length: int | None = None
    keep_alive_s: float | None = None
    truncate: bool = True
    shift: bool = True
    return_context: bool = False
    tells_start: bool = False
    tells_progress: bool = False
    prompt_logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """Vectors for texts, or for token ids that the model gets as they are.

    `dimensions` cuts where it is smaller than the model's own; `normalize` False leaves their length as the model made
    it.
    """

    model: ModelRef
    inputs: tuple[str | tuple[int, ...], ...]
    truncate: bool = True
    dimensions: int | None = None
    normalize: bool = True
    context_length: int | None = None
    keep_alive_s: float | None = None
    caller: Caller = ANONYMOUS


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyRequest:
    """Scores of texts, or of pairs such as a query and a document, by a model with a classification head.

    `truncate` shortens what is too long as the model's tokenizer does, of a pair the longer text first; otherwise that
    is a ContextLengthError.
    """

    model: ModelRef
    inputs: tuple[str | tuple[str, str], ...]
    truncate: bool = True
    context_length: int | None = None
    keep_alive_s: float | None = None
    caller: Caller = ANONYMOUS


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """Load a model, or touch one that is loaded."""

    model: ModelRef
    context_length: int | None = None
    keep_alive_s: float | None = None
    caller: Caller = ANONYMOUS


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeRequest:
    """The token ids of a prompt: those that a generation, or an embedding of its text, would compute, none cut off.

    `add_special_tokens` False gives those of a text alone, without what stands around it. `return_text` asks for what
    the ids say as well. `context_length` is for memory alone, where the model has to be loaded first.
    """

    model: ModelRef
    prompt: Prompt
    add_special_tokens: bool = True
    return_text: bool = False
    context_length: int | None = None
    keep_alive_s: float | None = None
    caller: Caller = ANONYMOUS


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeRequest:
    """The text that token ids stand for, with special tokens spelt out. `context_length` as in TokenizeRequest."""

    model: ModelRef
    token_ids: tuple[int, ...]
    context_length: int | None = None
    keep_alive_s: float | None = None
    caller: Caller = ANONYMOUS
