"""Fields that chat and text completions share, to SamplingParams fields."""

from collections.abc import Mapping
from typing import Any

from hugging_llama.dialects.body_fields import BodyField, Ignored
from hugging_llama.dialects.body_schema import BodySchema
from hugging_llama.dialects.openai.fields import TEXT_OR_TEXTS, Typed, needed_text
from hugging_llama.dialects.openai.known import STREAM_OPTIONS
from hugging_llama.dialects.openai.render import encode
from hugging_llama.dialects.progress import ABOUT_PROGRESS
from hugging_llama.dialects.structured import structured_format
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.formats import JsonObject, JsonSchema, OutputFormat

MAX_CHOICES = 16
_MAX_STOPS = 64


class SamplingSchema(BodySchema):
    """From `top_k` on they are not OpenAI's but vLLM's or ours, which clients send as `extra_body`."""

    model = needed_text("model", "The model: its name on the Hub, or one of your own.")
    temperature = Typed(float, low=0.0, high=1e3, load_default=1.0, about="0 takes the likeliest token.")
    top_p = Typed(float, low=0.0, high=1.0, load_default=1.0, about="Only the likeliest tokens, of so much together.")
    max_tokens: BodyField = Typed(int, load_default=None, about="The most tokens of an answer; negative: no limit.")
    n: BodyField = Typed(int, low=1, high=MAX_CHOICES, load_default=1, about="How many answers.")
    stop = BodyField(load_default=None, schema=TEXT_OR_TEXTS, about="Texts that end the answer.")
    seed = Typed(int, load_default=None, about="The same seed gives the same answer.")
    presence_penalty = Typed(float, low=-1e3, high=1e3, load_default=0.0, about="Against tokens that came before.")
    frequency_penalty = Typed(float, low=-1e3, high=1e3, load_default=0.0, about="The same, by how often they came.")
    logit_bias = Typed(dict, load_default=dict, about="Numbers from -100 to 100 by token id.")
    stream = Typed(bool, load_default=False, about="Events as the answer is written.")
    stream_options = Typed(
        dict,
        load_default=dict,
        holds=STREAM_OPTIONS,
        about="`include_usage`: a last chunk with the token counts.",
    )
    user: BodyField = Ignored("there are no users here, keys apart")
    top_k = Typed(int, load_default=None, about="Only so many of the likeliest tokens.")
    min_p = Typed(float, low=0.0, high=1.0, load_default=None, about="Only tokens this likely beside the likeliest.")
    repetition_penalty = Typed(float, low=1e-3, high=1e3, load_default=None, about="Above 1 against repetition.")
    min_tokens = Typed(int, low=0, load_default=None, about="The fewest tokens of an answer.")
    structured_outputs = Typed(
        dict, load_default=dict, about="One of `regex`, `choice`, `grammar`, `json`, `json_object`; enforced."
    )
    progress = Typed(bool, load_default=False, about=ABOUT_PROGRESS)
    thinking_budget: BodyField = Typed(int, low=0, load_default=None, about="The most tokens of reasoning.")


def require_name(body: Mapping[str, Any]) -> None:
    """An empty name is none, for a chat. Raises InvalidRequestError."""
    if not body["model"]:
        raise InvalidRequestError("model is required", param="model")


def sampling_options(body: Mapping[str, Any]) -> dict[str, Any]:
    """SamplingParams fields by name. Raises InvalidRequestError."""
    optional = {
        "seed": body["seed"],
        "top_k": body["top_k"],
        "min_p": body["min_p"],
        "repetition_penalty": body["repetition_penalty"],
        "min_tokens": body["min_tokens"],
        "max_thinking_tokens": body.get("thinking_budget"),
    }
    limit = body["max_tokens"]
    limits = {} if limit is None else {"max_tokens": limit if limit >= 0 else None}
    return {
        **limits,
        "temperature": body["temperature"],
        # Ollama reads 0 as nothing said
        "top_p": body["top_p"] or 1.0,
        "presence_penalty": body["presence_penalty"],
        "frequency_penalty": body["frequency_penalty"],
        "stop": parse_stop(body["stop"]),
        "logit_bias": parse_logit_bias(body["logit_bias"]),
        **{name: value for name, value in optional.items() if value is not None},
    }


def parse_stop(value: Any) -> tuple[str, ...]:
    """One text or a list of them."""
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > _MAX_STOPS or not all(isinstance(stop, str) for stop in stops):
        raise InvalidRequestError(f"'stop' must be a string or a list of at most {_MAX_STOPS} strings", param="stop")
    return tuple(stop for stop in stops if stop)


def parse_logit_bias(value: Mapping[str, Any]) -> tuple[tuple[int, float], ...]:
    """Token ids, as text, and what is added to their logits."""
    found = []
    for token_id, bias in value.items():
        is_number = isinstance(bias, int | float) and not isinstance(bias, bool)
        is_id = token_id.isascii() and token_id.isdigit() and len(token_id) < 10
        if not is_id or not is_number or not -100 <= bias <= 100:
            raise InvalidRequestError("'logit_bias' maps token ids to numbers from -100 to 100", param="logit_bias")
        found.append((int(token_id), float(bias)))
    return tuple(found)


def parse_response_format(value: Any, structured: Mapping[str, Any]) -> OutputFormat | None:
    """`response_format`, or vLLM's `structured_outputs`. Raises InvalidRequestError."""
    format = _response_format(value)
    if not structured:
        return format
    if format is not None:
        raise InvalidRequestError(
            "'response_format' and 'structured_outputs' exclude each other", param="structured_outputs"
        )
    return _structured(structured)


def _response_format(value: Any) -> OutputFormat | None:
    kind = value.get("type") if isinstance(value, dict) else value
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return JsonObject()
    if kind == "json_schema":
        described = value.get("json_schema") if isinstance(value, dict) else None
        schema = described.get("schema") if isinstance(described, dict) else None
        if not isinstance(schema, dict):
            raise InvalidRequestError(
                "Missing required parameter: 'response_format.json_schema.schema'.", param="response_format"
            )
        return JsonSchema(encode(schema).decode())
    raise InvalidRequestError(
        "Invalid value for 'response_format.type': supported are 'text', 'json_object' and 'json_schema'.",
        param="response_format",
    )


def _structured(value: Mapping[str, Any]) -> OutputFormat:
    if found := structured_format(value):
        return found
    raise InvalidRequestError(
        "'structured_outputs' takes one of regex, choice, grammar, json and json_object", param="structured_outputs"
    )
