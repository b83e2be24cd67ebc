"""Every failure a caller can meet. Errors carry facts; the dialects write the sentences.

HuggingLlamaError
├── RequestError                  the caller must change the request
│   ├── InvalidRequestError           param, unsupported
│   │   └── PreviousResponseError         param, id
│   ├── BodyTooLargeError             limit
│   ├── BodyTooSlowError              (none)
│   ├── UnsupportedCapabilityError    model, capabilities, canonical
│   ├── ContextLengthError            num_prompt_tokens, limit
│   ├── TextTooLongError              num_bytes, limit
│   └── GrammarError                  path
├── ModelNotFoundError            name, canonical
├── ResponseNotFoundError         id
├── AccessError                   somebody must grant something first
│   ├── KeyRejectedError              realm
│   ├── GatedModelError               repo, url
│   ├── WriteForbiddenError           repo
│   ├── ForbiddenError                role or model
│   └── CloudModelError               name
├── CapacityError                 the same request may succeed later
│   ├── EngineBusyError               queue_depth, retry_after_s
│   ├── RateLimitedError              retry_after_s
│   └── InsufficientMemoryError       need_bytes, free_bytes
├── TransferError                 repo, cause
├── StorageError                  cause
└── EngineError                   our side failed
    ├── ModelLoadError                model
    ├── GenerationError               model
    │   └── InvalidLogitsError            (none)
    ├── EngineDiedError               (none)
    ├── EngineShutdownError           (none)
    └── ProtocolError                 (none)

`code` is stable: it crosses the socket to the engine and labels the metrics.
"""

from typing import Any, ClassVar

Facts = dict[str, Any]


class HuggingLlamaError(Exception):
    """Base of all our errors: a stable code, a plain message for logs and default answers, and facts."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts: Facts = facts


class RequestError(HuggingLlamaError):
    """The request can't be served as it was sent."""

    code = "bad_request"


class InvalidRequestError(RequestError):
    """A field is missing, malformed or out of range. Facts: `param`, the field's name, if one is to blame, and
    `unsupported`, true where it asks for what this server does not do."""

    code = "invalid_request"


class PreviousResponseError(InvalidRequestError):
    """The response to go on from is not here. Facts: `param`, `id`."""

    code = "previous_response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"Previous response with id '{id}' not found.", param="previous_response_id", id=id)


class BodyTooLargeError(RequestError):
    """The body has more bytes than the server takes. Facts: `limit`."""

    code = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request body is larger than {limit} bytes", limit=limit)


class BodyTooSlowError(RequestError):
    """The body did not come in time."""

    code = "body_too_slow"

    def __init__(self) -> None:
        super().__init__("the request body did not come in time")


class UnsupportedCapabilityError(RequestError):
    """The model can't do what is asked. Facts: `model` as sent, `capabilities`, those that it lacks, and `canonical`,
    the model's full name, where it is known."""

    code = "unsupported_capability"

    def __init__(self, model: str, capabilities: list[str], *, canonical: str = "") -> None:
        facts: Facts = {"model": model, "capabilities": capabilities} | ({"canonical": canonical} if canonical else {})
        super().__init__(f'"{model}" does not support {", ".join(capabilities)}', **facts)


class ContextLengthError(RequestError):
    """The prompt is longer than the context. Facts: `num_prompt_tokens`, `limit`."""

    code = "context_length"

    def __init__(self, num_prompt_tokens: int, limit: int) -> None:
        super().__init__(
            f"the prompt has {num_prompt_tokens} tokens, the context holds {limit}",
            num_prompt_tokens=num_prompt_tokens,
            limit=limit,
        )


class TextTooLongError(RequestError):
    """There is more text than is tokenised at once, however long the context is. Facts: `num_bytes`, `limit`."""

    code = "text_too_long"

    def __init__(self, num_bytes: int, limit: int) -> None:
        super().__init__(
            f"the text has {num_bytes} bytes, and at most {limit} are read at once; send less",
            num_bytes=num_bytes,
            limit=limit,
        )


class GrammarError(RequestError):
    """An output format can't be enforced. Facts: `path` of the offending part, if known."""

    code = "grammar"


class ModelNotFoundError(HuggingLlamaError):
    """No local model answers to this name. Facts: `name` as sent, `canonical`."""

    code = "model_not_found"

    def __init__(self, name: str, canonical: str) -> None:
        super().__init__(f"model '{name}' not found", name=name, canonical=canonical)


class ResponseNotFoundError(HuggingLlamaError):
    """No response is kept under this id. Facts: `id`."""

    code = "response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"Response with id '{id}' not found.", id=id)


class AccessError(HuggingLlamaError):
    """Access must be granted first."""

    code = "access"


class KeyRejectedError(AccessError):
    """A key or token is missing or wrong. Facts: `realm`, who rejected it."""

    code = "key_rejected"


class GatedModelError(AccessError):
    """The repository's licence must be accepted first. Facts: `repo`, `url` of its page."""

    code = "gated_model"


class WriteForbiddenError(AccessError):
    """The token may not write to the repository. Facts: `repo`."""

    code = "write_forbidden"


class ForbiddenError(AccessError):
    """The caller's key does not reach so far. Facts: `role`, which it lacks, or `model`, which it may not name."""

    code = "forbidden"


class CloudModelError(AccessError):
    """The name asks for a model in somebody's cloud, and this server has none. Facts: `name` as sent."""

    code = "cloud_model"

    def __init__(self, name: str) -> None:
        super().__init__("this server has no cloud models", name=name)


class CapacityError(HuggingLlamaError):
    """No room now."""

    code = "capacity"


class EngineBusyError(CapacityError):
    """The queue is full. Facts: `queue_depth`, `retry_after_s`."""

    code = "engine_busy"


class RateLimitedError(CapacityError):
    """The caller has had its share for now. Facts: `retry_after_s`."""

    code = "rate_limited"


class InsufficientMemoryError(CapacityError):
    """The model or its KV cache does not fit. Facts: `need_bytes`, `free_bytes`."""

    code = "insufficient_memory"


class TransferError(HuggingLlamaError):
    """The Hub, the network or the disk failed during a transfer. Facts: `repo`, `cause`."""

    code = "transfer"


class StorageError(HuggingLlamaError):
    """What is kept of answers can't be read or written. Facts: `cause`."""

    code = "storage"

    def __init__(self, cause: str) -> None:
        super().__init__(f"the stored responses can't be used now: {cause}", cause=cause)


class EngineError(HuggingLlamaError):
    """The engine failed; the request may be fine."""

    code = "engine"


class ModelLoadError(EngineError):
    """A local model can't be loaded. Facts: `model`."""

    code = "model_load"


class GenerationError(EngineError):
    """One generation failed. Facts: `model`."""

    code = "generation"


class InvalidLogitsError(GenerationError):
    """The model computed NaN or infinity where a token should be chosen."""

    code = "invalid_logits"


class EngineDiedError(EngineError):
    """The engine process is gone or can't be reached."""

    code = "engine_died"


class EngineShutdownError(EngineError):
    """The server is shutting down."""

    code = "shutdown"


class ProtocolError(EngineError):
    """A frame that can't be understood, or two sides of different versions."""

    code = "protocol"


def _all_errors(base: type[HuggingLlamaError]) -> dict[str, type[HuggingLlamaError]]:
    found = {base.code: base}
    for child in base.__subclasses__():
        found |= _all_errors(child)
    return found


def error_from_facts(code: str, message: str, facts: Facts) -> HuggingLlamaError:
    """The error that `code` names, as it was on the other side of a socket; an unknown code gives the base class."""
    cls = _all_errors(HuggingLlamaError).get(code, HuggingLlamaError)
    error = cls.__new__(cls)
    HuggingLlamaError.__init__(error, message, **facts)
    return error
