"""Our errors in OpenAI's shape: a type, one sentence, the parameter."""

from flask import Response, request

from hugging_llama import errors
from hugging_llama.dialects.error_answers import Statuses, add_retry, plain_sentence, status_in
from hugging_llama.dialects.openai.render import Json, encode, event

_STATUS: Statuses = {
    errors.RequestError: 400,
    errors.BodyTooLargeError: 413,
    errors.BodyTooSlowError: 408,
    errors.ModelNotFoundError: 404,
    errors.ResponseNotFoundError: 404,
    errors.AccessError: 403,
    errors.KeyRejectedError: 401,
    errors.RateLimitedError: 429,
    errors.EngineBusyError: 503,
    errors.EngineShutdownError: 503,
    errors.StorageError: 503,
}
# the word by which clients know that they must send less
_CODES = dict.fromkeys((errors.ContextLengthError.code, errors.TextTooLongError.code), "context_length_exceeded")
_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def status_of(error: errors.HuggingLlamaError) -> int:
    """The HTTP status for an error that happens before the first byte."""
    return status_in(_STATUS, error)


def error_json(error: errors.HuggingLlamaError, sentence: str = "") -> Json:
    """The body, also of an event in a stream; the error's own sentence unless there is another one."""
    kind = _TYPES.get(status_of(error), "api_error")
    param = error.facts.get("param")
    code = _CODES.get(error.code, error.code)
    return {"error": {"message": sentence or plain_sentence(error), "type": kind, "param": param, "code": code}}


def error_response(error: errors.HuggingLlamaError) -> Response:
    """The answer to a request that failed before its first byte."""
    sentence = ""
    if isinstance(error, errors.ModelNotFoundError) and (name := error.facts.get("name")):
        if request.path.endswith("/v1/embeddings"):
            sentence = f'model "{name}" not found, try pulling it first'
        elif "/v1/models/" in request.path:
            sentence = f"model '{error.facts.get('canonical') or name}' not found"
    response = Response(encode(error_json(error, sentence)), status=status_of(error), content_type="application/json")
    add_retry(response, error)
    return response


def error_event(error: errors.HuggingLlamaError) -> bytes:
    """The last event of a stream that failed; no `[DONE]` follows."""
    return event(error_json(error))
