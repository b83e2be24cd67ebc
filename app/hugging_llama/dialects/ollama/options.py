"""The `options` object: Ollama's names, the API document's and Hugging Face's, to SamplingParams fields."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hugging_llama.dialects.ollama import option_values as values
from hugging_llama.errors import InvalidRequestError


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
    """`sampling` holds SamplingParams fields by name, only those given; `context_length` is `num_ctx`.

    `without_effect` are names that Ollama knows and that change nothing here, `unknown` those that nobody here knows;
    Ollama ignores these, too.
    """

    sampling: Mapping[str, Any]
    context_length: int | None
    without_effect: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def _integer(field: str, low: float = -math.inf, high: float = math.inf) -> Option:
    return Option(field=field, type="integer", read=values.integer, low=low, high=high)


def _float(field: str, low: float = -math.inf, high: float = math.inf) -> Option:
    return Option(field=field, type="float32", read=values.number, low=low, high=high)


def _boolean(field: str) -> Option:
    return Option(field=field, type="boolean", read=values.boolean)


def _array(name: str, field: str, read: Callable[[Any], Any], items: str) -> Option:
    return Option(field=field, type="array", read=values.array_of(read, name, items))


_MAX_TOKENS = _integer("max_tokens")
_REPETITION_PENALTY = _float("repetition_penalty", low=1e-3, high=1e3)
_NUM_DRAFT_TOKENS = _integer("num_draft_tokens", low=0, high=64)
OPTIONS: Mapping[str, Option] = {
    "num_predict": _MAX_TOKENS,
    "max_tokens": _MAX_TOKENS,
    "max_new_tokens": _MAX_TOKENS,
    "min_new_tokens": _integer("min_tokens", low=0),
    "thinking_budget": _integer("max_thinking_tokens", low=0),
    "num_ctx": _integer("context_length", low=1),
    "num_keep": _integer("num_keep", low=-1),
    "draft_num_predict": _NUM_DRAFT_TOKENS,
    "prompt_lookup_num_tokens": _NUM_DRAFT_TOKENS,
    "temperature": _float("temperature", low=0.0, high=1e3),
    "top_k": _integer("top_k"),
    "top_p": _float("top_p", low=0.0),
    "min_p": _float("min_p", low=0.0, high=1.0),
    "typical_p": _float("typical_p", low=0.0),
    "top_h": _float("top_h", low=0.0, high=1.0),
    "epsilon_cutoff": _float("epsilon_cutoff", low=0.0, high=1.0),
    "eta_cutoff": _float("eta_cutoff", low=0.0, high=1.0),
    "repeat_penalty": _REPETITION_PENALTY,
    "repetition_penalty": _REPETITION_PENALTY,
    "presence_penalty": _float("presence_penalty", low=-1e3, high=1e3),
    "frequency_penalty": _float("frequency_penalty", low=-1e3, high=1e3),
    "repeat_last_n": _integer("repeat_last_n", low=-1),
    "no_repeat_ngram_size": _integer("no_repeat_ngram_size", low=0, high=256),  # an n-gram a token is kept
    "logit_bias": Option(field="logit_bias", type="object", read=values.logit_bias),
    "bad_words": _array("bad_words", "bad_words", values.text, "strings"),
    "bad_words_ids": _array("bad_words_ids", "bad_words_ids", values.token_run, "arrays of token ids"),
    "suppress_tokens": _array("suppress_tokens", "suppress_tokens", values.token_id, "token ids"),
    "begin_suppress_tokens": _array("begin_suppress_tokens", "begin_suppress_tokens", values.token_id, "token ids"),
    "stop": _array("stop", "stop", values.text, "strings"),
    "stop_strings": _array("stop_strings", "stop", values.text, "strings"),
    "seed": _integer("seed"),
    "do_sample": _boolean("do_sample"),
    "num_beams": _integer("num_beams", low=1, high=16),
    "length_penalty": _float("length_penalty", low=-100.0, high=100.0),
    "early_stopping": Option(field="early_stopping", type='boolean, or "never"', read=values.early_stopping),
}

WITHOUT_EFFECT: Mapping[str, Option] = {
    "num_batch": _integer("num_batch"),
    "num_gpu": _integer("num_gpu"),
    "main_gpu": _integer("main_gpu"),
    "num_thread": _integer("num_thread"),
    "use_mmap": _boolean("use_mmap"),
    "use_cache": _boolean("use_cache"),
}
"""What concerns how a model is loaded and run is the server's to choose, in its settings, for all callers alike."""

REFUSED: Mapping[str, Any] = {
    "num_return_sequences": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0,
    "penalty_alpha": 0,
    "guidance_scale": 1,
    "encoder_repetition_penalty": 1,
    "encoder_no_repeat_ngram_size": 0,
    "exponential_decay_length_penalty": None,
    "sequence_bias": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "force_words_ids": None,
    "constraints": None,
    "watermarking_config": None,
    "dola_layers": None,
    "token_healing": False,
    "max_time": None,
    "max_length": None,
    "min_length": 0,
    "eos_token_id": None,
}
"""Names of GenerationConfig that would change the answer and can't be served, each with the value that asks for
nothing (None: being left out)."""


def is_option(name: str) -> bool:
    """Whether the option does something here."""
    return name == "stop" or name in OPTIONS


def parse_options(options: Mapping[str, Any]) -> ParsedOptions:
    """Read the options object.

    Raises InvalidRequestError in Ollama's words for a wrong type, in ours for a value out of range or not served.
    """
    sampling: dict[str, Any] = {}
    without_effect: list[str] = []
    unknown: list[str] = []
    for name, value in options.items():
        if value is None:
            continue
        if name in OPTIONS:
            sampling[OPTIONS[name].field] = _parse_value(name, OPTIONS[name], value)
        elif name in WITHOUT_EFFECT:
            _parse_value(name, WITHOUT_EFFECT[name], value)
            without_effect.append(name)
        elif name in REFUSED:
            _refuse(name, value)
        else:
            unknown.append(name)
    _settle(sampling)
    context_length = sampling.pop("context_length", None)
    return ParsedOptions(
        sampling=sampling,
        context_length=context_length,
        without_effect=tuple(without_effect),
        unknown=tuple(unknown),
    )


def _parse_value(name: str, option: Option, value: Any) -> Any:
    try:
        parsed = option.read(value)
    except (TypeError, OverflowError):
        raise InvalidRequestError(f'option "{name}" must be of type {option.type}', param=name) from None
    if isinstance(parsed, float) and not math.isfinite(parsed):
        raise InvalidRequestError(f'option "{name}" must be a finite number', param=name)
    if isinstance(parsed, int | float) and not isinstance(parsed, bool) and not option.low <= parsed <= option.high:
        raise InvalidRequestError(f'option "{name}" must be {_range_text(option)}, not {parsed}', param=name)
    return parsed


def _range_text(option: Option) -> str:
    if math.isinf(option.high):
        return f"at least {option.low:g}"
    return f"between {option.low:g} and {option.high:g}"


def _refuse(name: str, value: Any) -> None:
    neutral = REFUSED[name]
    if value != neutral or isinstance(value, bool) != isinstance(neutral, bool):
        only = "" if neutral is None else f" other than {str(neutral).lower()}"
        raise InvalidRequestError(f'option "{name}"{only} is not supported', param=name)


def _settle(sampling: dict[str, Any]) -> None:
    """What some values mean, and fields that several options set, in place."""
    if (max_tokens := sampling.get("max_tokens")) is not None and max_tokens <= 0:  # as in Ollama, 0 is no limit
        sampling["max_tokens"] = None
    if (seed := sampling.get("seed")) is not None and seed < 0:
        sampling["seed"] = None
    if (top_k := sampling.get("top_k")) is not None:
        sampling["top_k"] = max(0, top_k)
    for name in {"stop", "bad_words"} & sampling.keys():
        sampling[name] = tuple(text for text in sampling[name] if text)
    if (runs := sampling.pop("bad_words_ids", None)) is not None:
        sampling["bad_words"] = (*sampling.get("bad_words", ()), *runs)
    if sampling.pop("do_sample", True) is False:
        sampling["temperature"] = 0.0
