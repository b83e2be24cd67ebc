"""What the error answers of several dialects have in common; statuses and most sentences are each dialect's own."""

import math
from collections.abc import Mapping

from flask import Response

from hugging_llama import errors

Statuses = Mapping[type[errors.HuggingLlamaError], int]


def status_in(statuses: Statuses, error: errors.HuggingLlamaError) -> int:
    """The status of the nearest class of the error, 500 for one that no class names."""
    return next((statuses[cls] for cls in type(error).__mro__ if cls in statuses), 500)


def plain_sentence(error: errors.HuggingLlamaError) -> str:
    """The error's own message; what a model can't do by the name that the caller sent, and no cloud in Ollama's."""
    if isinstance(error, errors.CloudModelError):
        return "ollama cloud is disabled: remote model is unavailable"
    if isinstance(error, errors.UnsupportedCapabilityError):
        words = ["chat" if word == "completion" else word for word in error.facts.get("capabilities", [])]
        return f'"{error.facts.get("model", "")}" does not support {", ".join(words)}'
    return error.message


def add_retry(response: Response, error: errors.HuggingLlamaError) -> None:
    """When a busy server may be asked again, in whole seconds."""
    if isinstance(error, errors.EngineBusyError | errors.RateLimitedError):
        response.headers["Retry-After"] = str(max(1, math.ceil(error.facts.get("retry_after_s", 1))))
