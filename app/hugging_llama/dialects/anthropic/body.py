"""Bodies of /v1/messages and its count, checked, and what they ask for."""

from collections.abc import Mapping
from typing import Any

from hugging_llama.dialects.anthropic import known
from hugging_llama.dialects.anthropic import messages as parsing
from hugging_llama.dialects.anthropic.render import encode
from hugging_llama.dialects.body_fields import BodyField, Ignored, Refused, Typed
from hugging_llama.dialects.body_schema import BodySchema
from hugging_llama.dialects.known_names import Names
from hugging_llama.dialects.progress import ABOUT_PROGRESS
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.formats import JsonSchema, OutputFormat
from hugging_llama.neutral.messages import begins_answer
from hugging_llama.neutral.models import Capability, LocalModel
from hugging_llama.neutral.requests import ChatPrompt, GenerateCall

_EFFORTS: Mapping[str, str] = {"low": "low", "medium": "medium", "high": "high", "max": "max", "xhigh": "high"}
_MOST_TOKENS = 2**31 - 1
_MAX_STOPS = 10_000
"""Each is looked for behind every token, and the other requests of a step wait meanwhile."""
_NO_USERS = "there are no users here, keys apart"


def _tools(holds: Names) -> BodyField:
    return BodyField(
        load_default=None,
        schema={"type": "array", "items": {"type": "object"}},
        holds=holds,
        about="What the model may call.",
    )


class CountSchema(BodySchema):
    """The request body of /v1/messages/count_tokens."""

    model = Typed(str, load_default="", must=True, about="The model: its name on the Hub, or one of your own.")
    messages = BodyField(
        load_default=None,
        must=True,
        schema={"type": "array", "minItems": 1, "items": {"type": "object"}},
        holds=known.MESSAGES,
        about="The conversation.",
    )
    system = BodyField(
        load_default=None,
        schema={"type": ["string", "array"]},
        holds=known.SYSTEM,
        about="A text, or blocks of text.",
    )
    tools = _tools(known.TOOLS_OF_COUNT)
    tool_choice = BodyField(
        load_default=None,
        schema={"type": "object"},
        holds=known.TOOL_CHOICE,
        about="`auto`, `any`, `none`, or a `tool` by name; enforced.",
    )
    thinking = Typed(
        dict,
        load_default=dict,
        holds=known.THINKING,
        about="`enabled`, with `budget_tokens`, or `disabled`, where the model can think.",
    )
    output_config = Typed(dict, load_default=dict, holds=known.OUTPUT_OF_COUNT, about="`effort`: how much to think.")
    cache_control = Ignored("beginnings of prompts are found without it")
    context_management = Ignored("what to leave out of a long chat is the caller's choice")
    output_format: BodyField = Ignored("a format is not part of the prompt")
    mcp_servers = Refused("this server talks to no MCP servers: send their tools as 'tools'")
    speed = Ignored("there is one speed")
    betas = Ignored("what is served here needs no leave")
    user_profile_id = Ignored(_NO_USERS)
    workspace_id = Ignored(_NO_USERS)


class MessagesSchema(CountSchema):
    """The request body of /v1/messages."""

    max_tokens = Typed(int, load_default=0, must=True, schema={"minimum": 1}, about="The most tokens of the answer.")
    temperature = Typed(float, low=0.0, high=1e3, load_default=None, about="0 takes the likeliest token.")
    top_p = Typed(float, low=0.0, high=1.0, load_default=None, about="Only the likeliest tokens, of so much together.")
    top_k = Typed(int, low=-1, load_default=None, about="Only so many of the likeliest tokens.")
    stop_sequences = BodyField(
        load_default=list, schema={"type": "array", "items": {"type": "string"}}, about="Texts that end the answer."
    )
    tools = _tools(known.TOOLS)
    output_config = Typed(
        dict,
        load_default=dict,
        holds=known.OUTPUT,
        about="`effort`: how much to think; `format`: a JSON Schema, enforced.",
    )
    output_format = Typed(
        dict, load_default=None, holds=known.FORMAT, about="Older spelling of `output_config.format`."
    )
    stream = Typed(bool, load_default=False, about="Events as the answer is written.")
    progress = Typed(bool, load_default=False, about=ABOUT_PROGRESS)
    metadata = Ignored(_NO_USERS)
    service_tier = Ignored("there is one tier")
    inference_geo = Ignored("the model runs here")
    diagnostics = Ignored("the log of the server has them")
    billing_policy = Ignored("nothing is billed")
    container = Refused("this server runs no code")
    compaction = Refused("a chat that is too long loses its oldest messages")
    thread = Refused("conversations are not kept: send all messages")
    fallbacks = Refused("one model answers: ask the other one yourself")
    fallback_credit_token = Refused("nothing is billed")


def check(body: Mapping[str, Any]) -> None:
    """Raises InvalidRequestError for what is missing."""
    if not body["model"]:
        raise InvalidRequestError("model is required", param="model")
    if body.get("max_tokens", 1) <= 0:
        raise InvalidRequestError("max_tokens is required and must be positive", param="max_tokens")


def parse_prompt(body: Mapping[str, Any], model: LocalModel) -> ChatPrompt:
    """The conversation. A model that can't think is not asked to: callers of this API ask every model."""
    tools = parsing.parse_tools(body["tools"])
    think = _think(body)
    messages = parsing.parse_messages(body["messages"], body["model"])
    return ChatPrompt(
        messages=(*parsing.parse_system(body["system"]), *messages),
        tools=tools,
        tool_choice=parsing.parse_tool_choice(body["tool_choice"], tools),
        think=think if Capability.THINKING in model.capabilities else None,
        continues=begins_answer(messages),
    )


def _think(body: Mapping[str, Any]) -> bool | str | None:
    kind = body["thinking"].get("type")
    if kind not in (None, "enabled", "disabled", "adaptive"):
        raise InvalidRequestError("thinking.type: must be enabled, disabled or adaptive", param="thinking")
    effort = body["output_config"].get("effort")
    if effort is not None and (not isinstance(effort, str) or effort not in _EFFORTS):
        raise InvalidRequestError(f"output_config.effort: must be one of {', '.join(_EFFORTS)}", param="output_config")
    if kind == "disabled":
        return False
    return _EFFORTS[effort] if effort else True if kind == "enabled" else None


def has_loose_schema(body: Mapping[str, Any], call: GenerateCall) -> bool:
    """Whether a tool asks to be called by its schema where nothing must be called, and so nothing holds the model."""
    is_free = isinstance(call.prompt, ChatPrompt) and call.prompt.tool_choice.mode == "auto" and call.format is None
    return is_free and parsing.has_strict(body["tools"])


def parse_options(body: Mapping[str, Any], model: LocalModel) -> dict[str, Any]:
    """SamplingParams fields by name; those that are not given are the model's. Raises InvalidRequestError."""
    given = {name: body[name] for name in ("temperature", "top_p", "top_k") if body[name] is not None}
    budget = body["thinking"].get("budget_tokens")
    if budget is not None and not (type(budget) is int and 0 < budget <= _MOST_TOKENS):
        raise InvalidRequestError("thinking.budget_tokens: must be a positive integer", param="thinking")
    if budget is not None and Capability.THINKING in model.capabilities:
        given["max_thinking_tokens"] = budget
    stop = body["stop_sequences"]
    if not isinstance(stop, list) or len(stop) > _MAX_STOPS or not all(isinstance(text, str) for text in stop):
        raise InvalidRequestError(
            f"stop_sequences: must be a list of at most {_MAX_STOPS} strings", param="stop_sequences"
        )
    return {**given, "max_tokens": body["max_tokens"], "stop": tuple(filter(None, stop))}


def parse_format(body: Mapping[str, Any]) -> OutputFormat | None:
    """`output_config.format`, or `output_format`, as it was called before. Raises InvalidRequestError."""
    old, new = body["output_format"], body["output_config"].get("format")
    if old is not None and new is not None:
        raise InvalidRequestError("output_format and output_config.format exclude each other", param="output_format")
    name, found = ("output_format", old) if new is None else ("output_config.format", new)
    if found is None:
        return None
    schema = found.get("schema") if isinstance(found, dict) and found.get("type") == "json_schema" else None
    if not isinstance(schema, dict):
        raise InvalidRequestError(
            f'{name} must be {{"type": "json_schema", "schema": {{…}}}}', param=name.partition(".")[0]
        )
    return JsonSchema(encode(schema).decode())
