"""The `options` object: Ollama's names, the API document's and Hugging Face's, to SamplingParams fields."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hugging_llama.errors import InvalidRequestError

_INT64 = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: the SamplingParams field it sets, the type in error texts, how a value is read, its range."""

    field: str
    type: str
    read: Callable[[Any], Any]
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedOptions:
    """`sampling` holds SamplingParams fields by name, only those given; `context_length` is `num_ctx`; `unknown` are
    names that nobody here knows, which Ollama ignores, too."""

    sampling: Mapping[str, Any]
    context_length: int | None
    unknown: tuple[str, ...] = ()


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _integer(value: Any) -> int:
    number = _number(value)
    if not math.isfinite(number) or abs(number) >= _INT64:
        raise TypeError
    return int(number)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _integer_option(field: str, low: float = -math.inf, high: float = math.inf) -> Option:
    return Option(field=field, type="integer", read=_integer, low=low, high=high)


def _float_option(field: str, low: float = -math.inf, high: float = math.inf) -> Option:
    return Option(field=field, type="float32", read=_number, low=low, high=high)


_MAX_TOKENS = _integer_option("max_tokens")
_REPETITION_PENALTY = _float_option("repetition_penalty", low=1e-3, high=1e3)
OPTIONS: Mapping[str, Option] = {
    "num_predict": _MAX_TOKENS,
    "max_tokens": _MAX_TOKENS,
    "max_new_tokens": _MAX_TOKENS,
    "num_ctx": _integer_option("context_length", low=1),
    "temperature": _float_option("temperature", low=0.0, high=1e3),
    "top_k": _integer_option("top_k"),
    "top_p": _float_option("top_p", low=0.0),
    "min_p": _float_option("min_p", low=0.0, high=1.0),
    "typical_p": _float_option("typical_p", low=0.0),
    "repeat_penalty": _REPETITION_PENALTY,
    "repetition_penalty": _REPETITION_PENALTY,
    "presence_penalty": _float_option("presence_penalty", low=-1e3, high=1e3),
    "frequency_penalty": _float_option("frequency_penalty", low=-1e3, high=1e3),
    "repeat_last_n": _integer_option("repeat_last_n", low=-1),
    "no_repeat_ngram_size": _integer_option("no_repeat_ngram_size", low=0),
    "seed": _integer_option("seed"),
    "do_sample": Option(field="do_sample", type="boolean", read=_boolean),
}


def is_option(name: str) -> bool:
    """Whether the option does something here."""
    return name == "stop" or name in OPTIONS


def parse_options(options: Mapping[str, Any]) -> ParsedOptions:
    """Read the options object.

    Raises InvalidRequestError in Ollama's words for a wrong type, in ours for a value out of range.
    """
    sampling: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in options.items():
        if value is None:
            continue
        if name == "stop":
            sampling["stop"] = _parse_stop(value)
        elif name in OPTIONS:
            option = OPTIONS[name]
            sampling[option.field] = _parse_value(name, option, value)
        else:
            unknown.append(name)
    return _settle(sampling, tuple(unknown))


def _parse_value(name: str, option: Option, value: Any) -> Any:
    try:
        parsed = option.read(value)
    except (TypeError, OverflowError):
        raise InvalidRequestError(f'option "{name}" must be of type {option.type}', param=name) from None
    if isinstance(parsed, float) and not math.isfinite(parsed):
        raise InvalidRequestError(f'option "{name}" must be a finite number', param=name)
    if not isinstance(parsed, bool) and not option.low <= parsed <= option.high:
        raise InvalidRequestError(f'option "{name}" must be {_range_text(option)}, not {parsed}', param=name)
    return parsed


def _range_text(option: Option) -> str:
    if math.isinf(option.high):
        return f"at least {option.low:g}"
    return f"between {option.low:g} and {option.high:g}"


def _parse_stop(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InvalidRequestError('option "stop" must be of type array', param="stop")
    if not all(isinstance(item, str) for item in value):
        raise InvalidRequestError('option "stop" must be of an array of strings', param="stop")
    return tuple(item for item in value if item)


def _settle(sampling: dict[str, Any], unknown: tuple[str, ...]) -> ParsedOptions:
    if (max_tokens := sampling.get("max_tokens")) is not None and max_tokens <= 0:  # as in Ollama, 0 is no limit
        sampling["max_tokens"] = None
    if (seed := sampling.get("seed")) is not None and seed < 0:
        sampling["seed"] = None
    if (top_k := sampling.get("top_k")) is not None:
        sampling["top_k"] = max(0, top_k)
    if sampling.pop("do_sample", True) is False:
        sampling["temperature"] = 0.0
    return ParsedOptions(sampling=sampling, context_length=sampling.pop("context_length", None), unknown=unknown)
