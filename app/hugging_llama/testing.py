"""An engine that plays a script: for tests of applications that mount us, and for our own. Needs no model.

engine = ScriptedEngine(generate=[TextDelta("Hi"), Finished(reason=FinishReason.STOP)])
app = create_app(settings, engine=engine)
...
assert engine.requests[0].model.name == "demo"
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

from hugging_llama.errors import EngineDiedError, HuggingLlamaError, InvalidRequestError
from hugging_llama.ipc import messages as wire
from hugging_llama.ipc.codec import decode_command, encode_command, wire_generate, wire_tokenize
from hugging_llama.neutral.events import (
    AnswerStream,
    Classified,
    Detokenized,
    Embeddings,
    EngineStatus,
    EventStream,
    Finished,
    FinishReason,
    GenerateEvent,
    Loaded,
    TextDelta,
    Tokenized,
)
from hugging_llama.neutral.models import LoadedModel, ModelRef
from hugging_llama.neutral.requests import (
    ChatPrompt,
    ClassifyRequest,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    LoadRequest,
    TextPrompt,
    TokenizeRequest,
    TokensPrompt,
)

EventT = TypeVar("EventT")
RequestT = TypeVar("RequestT")


class UntilClosed:
    """A step of a script that waits until the stream is closed, as a long prefill or a slow model would."""


Step: TypeAlias = EventT | HuggingLlamaError | UntilClosed
Script: TypeAlias = Iterable[Step[EventT]] | Callable[[RequestT], Iterable[Step[EventT]]]
"""What happens: events in order, an error where the stream shall fail. A callable gets the request and may compute."""

HELLO: tuple[GenerateEvent, ...] = (TextDelta("Hello!"), Finished(reason=FinishReason.STOP))


class ScriptedStream(Generic[EventT]):
    """An EventStream over a script. `is_closed` tells whether the caller closed it."""

    def __init__(self, steps: Iterable[Step[EventT]]) -> None:
        self._steps = iter(steps)
        self._closed = threading.Event()

    is_ready = True
    """What waits until the stream is closed is met by `next` alone."""
    late_in_s = math.inf

    def listen(self, bell: Callable[[], None]) -> None:
        """It is ready always."""

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def __iter__(self) -> Iterator[EventT]:
        return self

    def __next__(self) -> EventT:
        if self._closed.is_set():
            raise StopIteration
        step = next(self._steps)
        if isinstance(step, UntilClosed):
            self._closed.wait()
            raise StopIteration
        if isinstance(step, HuggingLlamaError):
            raise step
        return step

    def close(self) -> None:
        self._closed.set()

    def wait_closed(self, timeout_s: float) -> bool:
        """Whether the caller closed the stream in time."""
        return self._closed.wait(timeout_s)


class ScriptedEngine:
    """Implements EngineClient. Records every request and every stream in order; plays each verb's script anew for
    each request, so a script that is an iterator plays once."""

    def __init__(
        self,
        *,
        generate: Script[GenerateEvent, GenerateRequest] = HELLO,
        embed: Script[Embeddings, EmbedRequest] | None = None,
        classify: Script[Classified, ClassifyRequest] | None = None,
        tokenize: Script[Tokenized, TokenizeRequest] | None = None,
        detokenize: Script[Detokenized, DetokenizeRequest] | None = None,
        load: Script[Loaded, LoadRequest] | None = None,
        loaded: Sequence[LoadedModel] = (),
        status: EngineStatus | None = None,
    ) -> None:
        self._generate = generate
        self._embed = embed or _embed_alike
        self._classify = classify or _score_lengths
        self._tokenize = tokenize or _bytes_as_ids
        self._detokenize = detokenize or _ids_as_bytes
        self._load = load or _load_at_once
        self._loaded = loaded
        self._status = status or EngineStatus(pid=0, device="cpu")
        self._closed = False
        self.requests: list[
            GenerateRequest | EmbedRequest | ClassifyRequest | TokenizeRequest | DetokenizeRequest | LoadRequest
        ] = []
        self.streams: list[ScriptedStream[Any]] = []
        self.unloaded: list[ModelRef] = []

    def generate(self, request: GenerateRequest) -> AnswerStream:
        _send(wire.Generate(0, wire_generate(request)))
        return self._play(self._generate, request)

    def embed(self, request: EmbedRequest) -> EventStream[Embeddings]:
        _send(wire.Embed(0, request))
        return self._play(self._embed, request)

    def classify(self, request: ClassifyRequest) -> EventStream[Classified]:
        _send(wire.Classify(0, request))
        return self._play(self._classify, request)

    def tokenize(self, request: TokenizeRequest) -> EventStream[Tokenized]:
        _send(wire.Tokenize(0, wire_tokenize(request)))
        return self._play(self._tokenize, request)

    def detokenize(self, request: DetokenizeRequest) -> EventStream[Detokenized]:
        _send(wire.Detokenize(0, request))
        return self._play(self._detokenize, request)

    def load(self, request: LoadRequest) -> EventStream[Loaded]:
        _send(wire.Load(0, request))
        return self._play(self._load, request)

    def unload(self, model: ModelRef) -> None:
        self.unloaded.append(model)

    def loaded(self) -> list[LoadedModel]:
        return list(self._loaded)

    def status(self, timeout_s: float) -> EngineStatus:
        if self._closed:
            raise EngineDiedError("the engine was closed")
        return self._status

    def close(self) -> None:
        """From here on there is no engine, as far as `status` and new requests are concerned."""
        self._closed = True

    def _play(self, script: Script[EventT, RequestT], request: RequestT) -> ScriptedStream[EventT]:
        self.requests.append(cast(Any, request))
        steps = script(request) if callable(script) else script
        stream: ScriptedStream[EventT] = ScriptedStream([EngineDiedError("closed")] if self._closed else steps)
        self.streams.append(stream)
        return stream


def _send(command: wire.Command) -> None:
    """There is no socket, but what could not cross one is refused here, too: InvalidRequestError, ProtocolError."""
    decode_command(encode_command(command))


def _embed_alike(request: EmbedRequest) -> list[Embeddings]:
    """The same unit vector for every text."""
    return [Embeddings(vectors=((0.6, 0.8),) * len(request.inputs), num_prompt_tokens=len(request.inputs))]


def _score_lengths(request: ClassifyRequest) -> list[Classified]:
    """One label; the logit is the length of the text, or of the second one of a pair."""
    texts = [text if isinstance(text, str) else text[1] for text in request.inputs]
    scores = tuple((float(len(text)),) for text in texts)
    return [Classified(scores=scores, labels=("LABEL_0",), num_prompt_tokens=len(texts))]


def _bytes_as_ids(request: TokenizeRequest) -> list[Tokenized]:
    """A token a byte; of a chat those of its messages, one after the other."""
    prompt = request.prompt
    if isinstance(prompt, TokensPrompt):
        return [Tokenized(token_ids=prompt.token_ids)]
    if isinstance(prompt, ChatPrompt):
        text = "".join(message.content for message in prompt.messages)
    else:
        text = prompt.text if isinstance(prompt, TextPrompt) else prompt.prefix + prompt.suffix
    return [Tokenized(token_ids=tuple(text.encode()), text=text if request.return_text else "")]


def _ids_as_bytes(request: DetokenizeRequest) -> list[Step[Detokenized]]:
    if not all(0 <= token_id < 256 for token_id in request.token_ids):
        return [InvalidRequestError("tokens holds ids that this model does not have", param="tokens")]
    return [Detokenized(text=bytes(request.token_ids).decode(errors="replace"))]


def _load_at_once(request: LoadRequest) -> list[Loaded]:
    model = LoadedModel(
        name=request.model.name,
        path=request.model.path,
        digest=request.model.digest,
        size_bytes=0,
        size_vram_bytes=0,
        context_length=request.context_length or 4096,
        expires_at_s=math.inf,
        ref_count=0,
        device="cpu",
        dtype="float32",
        runner="scripted",
    )
    return [Loaded(model=model)]
