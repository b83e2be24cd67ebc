"""Small values that several requests share: keep_alive, format, think."""

from typing import Any

from hugging_llama.dialects.json_body import go_kind
from hugging_llama.dialects.ollama.render import encode
from hugging_llama.errors import InvalidRequestError, UnsupportedCapabilityError
from hugging_llama.neutral.requests import OutputFormat
from hugging_llama_config.units import FOREVER_S, parse_duration

_LONGEST_S = 2**63 / 1e9
_THINK_LEVELS = ("high", "medium", "low", "max")
_THINK_WORDS = '"high", "medium", "low", "max", true, or false'


def parse_keep_alive(value: Any) -> float | None:
    """Seconds: a number as it is, a Go duration; negative is for ever. None stays None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidRequestError(f"Unsupported type: '{_go_type(value)}'", param="keep_alive")
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise InvalidRequestError(str(error), param="keep_alive") from None
    # longer than Go's longest duration is for ever, too
    return float(value) if 0 <= value <= _LONGEST_S else FOREVER_S


def _go_type(value: Any) -> str:
    return {"bool": "bool", "array": "[]interface {}", "object": "map[string]interface {}"}[go_kind(value)]


def parse_format(value: Any) -> OutputFormat:
    """`"json"`, or nothing. A JSON Schema is refused until it can be enforced."""
    if value is None or value == "":
        return OutputFormat.TEXT
    if value == "json":
        return OutputFormat.JSON_OBJECT
    if isinstance(value, dict):
        raise InvalidRequestError(
            'a JSON Schema in "format" can\'t be enforced by this version yet; use "json"', param="format"
        )
    raw = encode(value).decode()
    quoted = encode(raw).decode()
    raise InvalidRequestError(
        f'invalid format: {quoted}; expected "json" or a valid JSON Schema object', param="format"
    )


def parse_think(value: Any) -> bool | str | None:
    """True, false, a level, or None for the model's own choice."""
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise InvalidRequestError(f"think must be a boolean or string ({_THINK_WORDS})", param="think")
    if value not in _THINK_LEVELS:
        raise InvalidRequestError(f'invalid think value: "{value}" (must be {_THINK_WORDS})', param="think")
    return value


def refuse_images(images: Any, model: str) -> None:
    """No loaded model can look at pictures yet; saying so beats dropping them."""
    if images:
        raise UnsupportedCapabilityError(model, ["vision"])


def check_top_logprobs(top_logprobs: int) -> None:
    """Raises InvalidRequestError; Ollama looks at this before it looks for the model."""
    if not 0 <= top_logprobs <= 20:
        raise InvalidRequestError("top_logprobs must be between 0 and 20", param="top_logprobs")


def parse_logprobs(logprobs: bool, top_logprobs: int) -> dict[str, int]:
    """SamplingParams fields; who asks for alternatives asks for log-probabilities."""
    return {"top_logprobs": top_logprobs} if logprobs or top_logprobs else {}
