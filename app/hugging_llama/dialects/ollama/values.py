"""Small values that several requests share: keep_alive, format, think."""

from collections.abc import Mapping
from typing import Any

from hugging_llama.dialects.json_body import go_kind
from hugging_llama.dialects.ollama.render import encode
from hugging_llama.dialects.structured import structured_format
from hugging_llama.errors import InvalidRequestError, UnsupportedCapabilityError
from hugging_llama.neutral.formats import JsonObject, JsonSchema, OutputFormat
from hugging_llama.neutral.requests import ToolChoice
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


def parse_format(value: Any) -> OutputFormat | None:
    """`"json"`, a JSON Schema, or nothing."""
    if value is None or value == "":
        return None
    if value == "json":
        return JsonObject()
    if isinstance(value, dict):
        return JsonSchema(encode(value).decode())
    raw = encode(value).decode()
    quoted = encode(raw).decode()
    raise InvalidRequestError(
        f'invalid format: {quoted}; expected "json" or a valid JSON Schema object', param="format"
    )


def parse_structured_outputs(value: Mapping[str, Any] | None) -> OutputFormat | None:
    """Our own field, spelt as vLLM's: one of `regex`, `choice` and `grammar`, `json` or `json_object`."""
    if not value:
        return None
    if len(value) != 1:
        raise InvalidRequestError("structured_outputs takes exactly one constraint", param="structured_outputs")
    if found := structured_format(value):
        return found
    raise InvalidRequestError(
        "structured_outputs takes regex (a string), choice (a list of strings), grammar (a string, Lark or EBNF), "
        "json (a schema) or json_object (true)",
        param="structured_outputs",
    )


def parse_tool_choice(value: Any, *, parallel: bool) -> ToolChoice:
    """Our own field, spelt as OpenAI's: `auto`, `none`, `required` or `{"function": {"name": …}}`."""
    if value is None or value == "":
        return ToolChoice(parallel=parallel)
    if value in ("auto", "none", "required"):
        return ToolChoice(mode=value, parallel=parallel)
    function = value.get("function") if isinstance(value, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]:
        return ToolChoice(mode="required", name=function["name"], parallel=parallel)
    raise InvalidRequestError(
        'tool_choice must be "auto", "none", "required" or {"type": "function", "function": {"name": "…"}}',
        param="tool_choice",
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


def check_body(body: Mapping[str, Any]) -> None:
    """What Ollama looks at before it looks for the model. Raises InvalidRequestError."""
    parse_think(body["think"])
    parse_keep_alive(body["keep_alive"])
    if not 0 <= body["top_logprobs"] <= 20:
        raise InvalidRequestError("top_logprobs must be between 0 and 20", param="top_logprobs")


def parse_logprobs(logprobs: bool, top_logprobs: int) -> dict[str, int]:
    """SamplingParams fields; who asks for alternatives asks for log-probabilities."""
    return {"top_logprobs": top_logprobs} if logprobs or top_logprobs else {}
