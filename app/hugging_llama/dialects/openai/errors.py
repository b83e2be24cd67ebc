"""Our errors in OpenAI's shape: a type, one sentence, the parameter."""

from collections.abc import Mapping

from flask import Response

from hugging_llama import errors
from hugging_llama.dialects.openai.render import Json, encode, event

_STATUS: Mapping[type[errors.HuggingLlamaError], int] = {
    errors.RequestError: 400,
    errors.BodyTooLargeError: 413,
    errors.ModelNotFoundError: 404,
    errors.AccessError: 403,
    errors.KeyRejectedError: 401,
    errors.EngineBusyError: 503,
    errors.EngineShutdownError: 503,
}
_TYPES = {400: "invalid_request_error", 404: "not_found_error", 413: "invalid_request_error"}


def status_of(error: errors.HuggingLlamaError) -> int:
    """The HTTP status for an error that happens before the first byte."""
    return next((_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS), 500)


def error_json(error: errors.HuggingLlamaError) -> Json:
    """The body, also of an event in a stream."""
    kind = _TYPES.get(status_of(error), "api_error")
    param = error.facts.get("param")
    return {"error": {"message": _sentence(error), "type": kind, "param": param, "code": error.code}}


def _sentence(error: errors.HuggingLlamaError) -> str:
    if isinstance(error, errors.UnsupportedCapabilityError):
        words = ["chat" if word == "completion" else word for word in error.facts.get("capabilities", [])]
        return f'"{error.facts.get("model", "")}" does not support {", ".join(words)}'
    return error.message


def error_response(error: errors.HuggingLlamaError) -> Response:
    """The answer to a request that failed before its first byte."""
    response = Response(encode(error_json(error)), status=status_of(error), content_type="application/json")
    if isinstance(error, errors.EngineBusyError):
        response.headers["Retry-After"] = str(max(1, round(error.facts.get("retry_after_s", 1))))
    return response


def error_event(error: errors.HuggingLlamaError) -> bytes:
    """The last event of a stream that failed; no `[DONE]` follows."""
    return event(error_json(error))
