"""Neutral types to bytes and back. What arrives raises ProtocolError, or GenerationError where it is one request."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from hugging_llama.errors import (
    GenerationError,
    HuggingLlamaError,
    InvalidRequestError,
    ProtocolError,
    error_from_facts,
)
from hugging_llama.ipc import messages as wire
from hugging_llama.ipc.facade import Answer
from hugging_llama.ipc.wire_formats import neutral_format, wire_format
from hugging_llama.ipc.wire_numbers import classified_item, embeddings_item, neutral_classified, neutral_embeddings
from hugging_llama.ipc.wire_prompts import (
    UNENCODABLE,
    encodable_prompt,
    json_object,
    neutral_call,
    neutral_prompt,
    wire_call,
)
from hugging_llama.neutral.events import (
    Classified,
    Detokenized,
    Embeddings,
    EngineStatus,
    Finished,
    Loaded,
    Progress,
    PromptLogprobs,
    Started,
    TextDelta,
    ThinkingDelta,
    Tokenized,
    TokenLogprob,
    ToolCallDelta,
)
from hugging_llama.neutral.models import LoadedModel
from hugging_llama.neutral.requests import (
    GenerateRequest,
    TokenizeRequest,
)


@dataclass(frozen=True, slots=True)
class EngineHello:
    """Who answers at the other end."""

    version: int
    fingerprint: str
    pid: int
    is_first: bool = False
    """Whether nobody has been connected to this engine before."""


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """The models in memory."""

    models: tuple[LoadedModel, ...]


Reply = Answer | EngineHello | LoadedModels | EngineStatus
"""Everything that an item can hold."""

_encoder = msgspec.msgpack.Encoder()
_command_decoder = msgspec.msgpack.Decoder(wire.Command)
_items_decoder = msgspec.msgpack.Decoder(list[wire.Item])
_UNDECODABLE = (msgspec.MsgspecError, TypeError, ValueError, RecursionError)

DecodedT = TypeVar("DecodedT")


def encode_command(command: wire.Command) -> bytes:
    """Raises InvalidRequestError for values that no frame can hold, such as text with lone surrogates."""
    try:
        return _encoder.encode(command)
    except UNENCODABLE as error:
        raise InvalidRequestError(f"the request can't be encoded: {error}") from None


def decode_command(payload: bytes) -> wire.Command:
    """Raises ProtocolError."""
    command: wire.Command = _checked(lambda: _command_decoder.decode(payload))
    return command


def request_id_in(payload: bytes) -> int | None:
    """That of a command that can't be understood; None if it has none."""
    try:
        match msgspec.msgpack.decode(payload):
            case [int(), int() as request_id, *_]:
                return request_id
    except _UNDECODABLE:
        pass
    return None


def encode_items(items: Iterable[wire.Item]) -> bytes:
    """One frame of items. Raises one of ENCODE_ERRORS if an item holds what no frame can."""
    return _encoder.encode(list(items))


ENCODE_ERRORS = UNENCODABLE


def decode_items(payload: bytes) -> list[tuple[int, Reply]]:
    """Request ids and what came for them. Raises ProtocolError."""
    return _checked(lambda: [(item.request_id, _from_item(item)) for item in _items_decoder.decode(payload)])


def _checked(decode: Callable[[], DecodedT]) -> DecodedT:
    try:
        return decode()
    except _UNDECODABLE as error:
        raise ProtocolError(f"a frame can't be understood: {error}") from None


def _readable(decode: Callable[[], DecodedT]) -> DecodedT:
    try:
        return decode()
    except (*_UNDECODABLE, ProtocolError) as error:
        raise unreadable(error) from None


def unreadable(error: Exception) -> GenerationError:
    """What the one is told whose request a web worker should not have sent like this."""
    return GenerationError(f"the engine can't read this request: {error}")


# requests


def wire_generate(request: GenerateRequest) -> wire.WireGenerate:
    """Raises InvalidRequestError for schemas or arguments that are not JSON."""
    return wire.WireGenerate(
        model=request.model,
        prompt=encodable_prompt(request.prompt),
        sampling=request.sampling,
        format=wire_format(request.format),
        context_length=request.context_length,
        keep_alive_s=request.keep_alive_s,
        truncate=request.truncate,
        shift=request.shift,
        return_context=request.return_context,
        tells_start=request.tells_start,
        tells_progress=request.tells_progress,
        prompt_logprobs=request.prompt_logprobs,
        caller=request.caller,
    )


def neutral_generate(request: wire.WireGenerate) -> GenerateRequest:
    """Raises GenerationError for texts that are not what they should be."""
    return GenerateRequest(
        model=request.model,
        prompt=_readable(lambda: neutral_prompt(request.prompt)),
        sampling=request.sampling,
        format=_readable(lambda: neutral_format(request.format)),
        context_length=request.context_length,
        keep_alive_s=request.keep_alive_s,
        truncate=request.truncate,
        shift=request.shift,
        return_context=request.return_context,
        tells_start=request.tells_start,
        tells_progress=request.tells_progress,
        prompt_logprobs=request.prompt_logprobs,
        caller=request.caller,
    )


def wire_tokenize(request: TokenizeRequest) -> wire.WireTokenize:
    """Raises InvalidRequestError for schemas or arguments that are not JSON."""
    return wire.WireTokenize(
        model=request.model,
        prompt=encodable_prompt(request.prompt),
        add_special_tokens=request.add_special_tokens,
        return_text=request.return_text,
        context_length=request.context_length,
        keep_alive_s=request.keep_alive_s,
        caller=request.caller,
    )


def neutral_tokenize(request: wire.WireTokenize) -> TokenizeRequest:
    """Raises GenerationError for texts that are not what they should be."""
    return TokenizeRequest(
        model=request.model,
        prompt=_readable(lambda: neutral_prompt(request.prompt)),
        add_special_tokens=request.add_special_tokens,
        return_text=request.return_text,
        context_length=request.context_length,
        keep_alive_s=request.keep_alive_s,
        caller=request.caller,
    )


# answers


def item_for(request_id: int, reply: Reply) -> wire.Item:
    """Raises one of ENCODE_ERRORS for tool arguments or vectors that are none."""
    return _TO_ITEM[type(reply)](request_id, reply) if type(reply) in _TO_ITEM else _error_item(request_id, reply)


def _error_item(request_id: int, reply: Reply) -> wire.Item:
    if not isinstance(reply, HuggingLlamaError):
        raise TypeError(f"{type(reply).__name__} can't be sent")
    facts = json.dumps(reply.facts, default=str)
    return wire.ErrorItem(request_id, reply.code, _plain(reply.message), facts)


def _plain(text: str) -> str:
    """`text` with lone surrogates escaped: an error must always be encodable."""
    return text.encode("utf-8", "backslashreplace").decode()


def _wire_logprobs(entries: tuple[TokenLogprob, ...]) -> tuple[wire.WireLogprob, ...]:
    if not entries:
        return ()
    return tuple(
        wire.WireLogprob(entry.token, entry.logprob, tuple((other.token, other.logprob) for other in entry.top))
        for entry in entries
    )


_TO_ITEM: Mapping[type, Callable[[int, Any], wire.Item]] = {
    Progress: wire.ProgressItem,
    Started: lambda rid, r: wire.StartedItem(
        rid, r.num_prompt_tokens, r.num_cached_tokens, r.num_truncated_tokens, r.queued
    ),
    PromptLogprobs: lambda rid, r: wire.PromptLogprobsItem(rid, _wire_logprobs(r.entries), r.first),
    TextDelta: lambda rid, r: wire.TextItem(rid, r.text, _wire_logprobs(r.logprobs)),
    ThinkingDelta: lambda rid, r: wire.ThinkingItem(rid, r.text, _wire_logprobs(r.logprobs)),
    ToolCallDelta: lambda rid, r: wire.ToolCallItem(rid, wire_call(r.call)),
    Finished: lambda rid, r: wire.FinishedItem(rid, r.reason, r.usage, r.context, r.stop),
    Embeddings: embeddings_item,
    Classified: classified_item,
    Tokenized: lambda rid, r: wire.TokenizedItem(rid, r.token_ids, r.text, r.load_ns),
    Detokenized: lambda rid, r: wire.DetokenizedItem(rid, r.text, r.load_ns),
    Loaded: lambda rid, r: wire.LoadedItem(rid, r.model, r.load_ns),
    LoadedModels: lambda rid, r: wire.LoadedModelsItem(rid, r.models),
    EngineStatus: wire.StatusItem,
    EngineHello: lambda rid, r: wire.HelloItem(rid, r.version, r.fingerprint, r.pid, r.is_first),
}


def _logprobs(entries: tuple[wire.WireLogprob, ...]) -> tuple[TokenLogprob, ...]:
    if not entries:
        return ()
    return tuple(
        TokenLogprob(entry.token, entry.logprob, tuple(TokenLogprob(*other) for other in entry.top))
        for entry in entries
    )


def _from_item(item: wire.Item) -> Reply:
    return _FROM_ITEM[type(item)](item)


_FROM_ITEM: Mapping[type, Callable[[Any], Reply]] = {
    wire.StartedItem: lambda item: Started(
        num_prompt_tokens=item.num_prompt_tokens,
        num_cached_tokens=item.num_cached_tokens,
        num_truncated_tokens=item.num_truncated_tokens,
        queued=item.queued,
    ),
    wire.ProgressItem: lambda item: item.progress,
    wire.PromptLogprobsItem: lambda item: PromptLogprobs(_logprobs(item.entries), item.first),
    wire.TextItem: lambda item: TextDelta(item.text, _logprobs(item.logprobs)),
    wire.ThinkingItem: lambda item: ThinkingDelta(item.text, _logprobs(item.logprobs)),
    wire.ToolCallItem: lambda item: ToolCallDelta(neutral_call(item.call)),
    wire.FinishedItem: lambda item: Finished(
        reason=item.reason, usage=item.usage, context=item.context, stop=item.stop
    ),
    wire.EmbeddingsItem: neutral_embeddings,
    wire.ClassifiedItem: neutral_classified,
    wire.TokenizedItem: lambda item: Tokenized(token_ids=item.token_ids, text=item.text, load_ns=item.load_ns),
    wire.DetokenizedItem: lambda item: Detokenized(text=item.text, load_ns=item.load_ns),
    wire.LoadedItem: lambda item: Loaded(model=item.model, load_ns=item.load_ns),
    wire.LoadedModelsItem: lambda item: LoadedModels(item.models),
    wire.StatusItem: lambda item: item.status,
    wire.ErrorItem: lambda item: error_from_facts(item.code, item.message, json_object(item.facts)),
    wire.HelloItem: lambda item: EngineHello(item.version, item.fingerprint, item.pid, item.is_first),
}
