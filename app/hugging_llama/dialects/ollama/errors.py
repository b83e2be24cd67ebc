"""Our errors in Ollama's words: status and one sentence."""

from collections.abc import Callable, Mapping

from flask import Response, request

from hugging_llama import errors
from hugging_llama.dialects.error_answers import Statuses, add_retry, status_in
from hugging_llama.dialects.ollama.render import encode

NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"
JSON_PLAIN = "application/json"
_CHECKED_TOGETHER = frozenset({"tools", "insert"})
_CAPABILITY_ENDPOINTS = {"/api/chat": "chat", "/api/generate": "generate"}

_STATUS: Statuses = {
    errors.RequestError: 400,
    errors.BodyTooLargeError: 413,
    errors.BodyTooSlowError: 408,
    errors.ModelNotFoundError: 404,
    errors.KeyRejectedError: 401,
    errors.ForbiddenError: 403,
    errors.GatedModelError: 403,
    errors.CloudModelError: 403,
    errors.WriteForbiddenError: 403,
    errors.RateLimitedError: 429,
    errors.EngineBusyError: 503,
    errors.EngineShutdownError: 503,
}


def status_of(error: errors.HuggingLlamaError, path: str) -> int:
    """The HTTP status for an error that happens before the first byte."""
    if path == "/api/pull" and isinstance(error, errors.ModelNotFoundError):
        return 500  # upstream it is the registry that answered 404
    return status_in(_STATUS, error)


def sentence(error: errors.HuggingLlamaError, path: str) -> str:
    """The text for an error on the endpoint at `path`, relative to where the API is mounted."""
    writer = _SENTENCES.get(type(error))
    return writer(error, path) if writer else error.message


def _model_not_found(error: errors.HuggingLlamaError, path: str) -> str:
    name = error.facts.get("name", "")
    if path in ("/api/embed", "/api/embeddings") and name:
        return f'model "{name}" not found, try pulling it first'
    if path == "/api/copy":
        return f'model "{name}" not found'
    if path == "/api/pull":
        return "pull model manifest: file does not exist"
    if path == "/api/show":
        name = error.facts.get("canonical") or name
    return f"model '{name}' not found"


def _unsupported(error: errors.HuggingLlamaError, path: str) -> str:
    capabilities = error.facts.get("capabilities", [])
    reason = ": its files have no pooling configuration (modules.json)" if "embedding" in capabilities else ""
    words = [_CAPABILITY_ENDPOINTS.get(path, c) if c == "completion" else c for c in capabilities]
    name = f'"{error.facts.get("model", "")}"'
    if _CHECKED_TOGETHER.issuperset(capabilities):  # upstream another function finds these, and it has no quotes
        name = error.facts.get("canonical") or error.facts.get("model", "")
    return f"{name} does not support " + "\n".join(words) + reason


def _context_length(error: errors.HuggingLlamaError, path: str) -> str:
    if path in ("/api/embed", "/api/rerank"):
        return "the input length exceeds the context length"
    return (
        "the prompt is longer than the context length currently available to the model; shorten the prompt, "
        "adjust the context length in settings, or use a model with a longer context length"
    )


def _cloud(error: errors.HuggingLlamaError, path: str) -> str:
    details = " details are" if path == "/api/show" else " is"
    return f"ollama cloud is disabled: remote model{details} unavailable"


def _busy(error: errors.HuggingLlamaError, path: str) -> str:
    return "server busy, please try again.  maximum pending requests exceeded"


_SENTENCES: Mapping[type[errors.HuggingLlamaError], Callable[[errors.HuggingLlamaError, str], str]] = {
    errors.ModelNotFoundError: _model_not_found,
    errors.UnsupportedCapabilityError: _unsupported,
    errors.ContextLengthError: _context_length,
    errors.EngineBusyError: _busy,
    errors.CloudModelError: _cloud,
}


def endpoint_path() -> str:
    """The path of the current request without the prefix under which the API is mounted."""
    rule = request.url_rule.rule if request.url_rule else request.path
    index = rule.rfind("/api/")
    return rule[index:] if index >= 0 else rule


def error_line(path: str) -> Callable[[errors.HuggingLlamaError], bytes]:
    """Renders an error that happens after the first byte: the last line of a stream."""
    return lambda error: encode({"error": sentence(error, path)}) + b"\n"


def error_response(error: errors.HuggingLlamaError) -> Response:
    """The answer to a request that failed before its first byte."""
    path = endpoint_path()
    body = encode({"error": sentence(error, path)})
    response = Response(body, status=status_of(error, path), content_type=JSON)
    add_retry(response, error)
    return response
