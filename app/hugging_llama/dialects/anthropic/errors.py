"""Our errors in Anthropic's shape."""

from collections.abc import Callable

from flask import Response

from hugging_llama import errors
from hugging_llama.dialects.anthropic.render import Json, encode, event
from hugging_llama.dialects.error_answers import Statuses, add_retry, plain_sentence, status_in
from hugging_llama.dialects.request_id import request_id

REQUEST_ID_HEADER = "Request-Id"

_STATUS: Statuses = {
    errors.RequestError: 400,
    errors.BodyTooLargeError: 413,
    errors.BodyTooSlowError: 408,
    errors.ModelNotFoundError: 404,
    errors.AccessError: 403,
    errors.KeyRejectedError: 401,
    errors.RateLimitedError: 429,
    errors.EngineBusyError: 529,
    errors.EngineShutdownError: 529,
}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def status_of(error: errors.HuggingLlamaError) -> int:
    """The HTTP status for an error that happens before the first byte."""
    return status_in(_STATUS, error)


def error_json(error: errors.HuggingLlamaError, request_id: str) -> Json:
    """The body, also of an event in a stream."""
    kind = _TYPES.get(status_of(error), "api_error")
    facts = {"type": kind, "message": plain_sentence(error), **_details(error)}
    return {"type": "error", "error": facts, "request_id": request_id}


def _details(error: errors.HuggingLlamaError) -> Json:
    """By which Anthropic's clients know that they may send the whole conversation instead of asking for a thread."""
    if error.facts.get("unsupported") and error.facts.get("param") == "thread":
        return {"details": {"error_code": "thread_unsupported_request"}}
    return {}


def error_response(error: errors.HuggingLlamaError) -> Response:
    """The answer to a request that failed before its first byte."""
    body = encode(error_json(error, request_id()))
    response = Response(body, status=status_of(error), content_type="application/json")
    add_retry(response, error)
    return response


def error_event(request_id: str) -> Callable[[errors.HuggingLlamaError], bytes]:
    """Renders an error that happens after the first byte: the last event of a stream."""
    return lambda error: event(error_json(error, request_id))
