"""The request's fields, to a neutral call and to what the answer says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hugging_llama.dialects.body_fields import BodyField, Ignored, Refused
from hugging_llama.dialects.openai.effort import parse_effort
from hugging_llama.dialects.openai.fields import Typed
from hugging_llama.dialects.openai.render import Json, encode
from hugging_llama.dialects.openai.responses import known
from hugging_llama.dialects.openai.responses.items import ItemReader
from hugging_llama.dialects.openai.responses.tools import ToolSet, parse_tool_choice, parse_tools
from hugging_llama.dialects.openai.sampling import SamplingSchema, parse_response_format, sampling_options
from hugging_llama.dialects.progress import parse_progress
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.formats import JsonObject, JsonSchema, OutputFormat
from hugging_llama.neutral.messages import Tool
from hugging_llama.neutral.requests import ChatPrompt, GenerateCall, ToolChoice

LOGPROBS = "message.output_text.logprobs"
SEALED = "reasoning.encrypted_content"
_OF_TOOLS = frozenset(
    {
        "web_search_call.action.sources",
        "web_search_call.results",
        "file_search_call.results",
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "message.input_image.image_url",
    }
)
_MAX_METADATA, _MAX_KEY, _MAX_VALUE = 16, 64, 512


class ResponsesSchema(SamplingSchema):
    """The request body."""

    input = BodyField(
        load_default=None,
        schema={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
        holds=known.INPUT,
        about="A text, or items: messages, reasoning, calls and their outputs.",
    )
    instructions = Typed(str, load_default="", about="A system text; not carried over to the next response.")
    max_output_tokens = Typed(int, low=1, load_default=None, about="The most tokens of the answer.")
    max_tool_calls = Ignored("it counts calls that a server makes itself")
    n = Refused("one request has one response", unless=(1,))
    max_tokens = Refused("the limit of an answer is 'max_output_tokens' here")
    top_logprobs = Typed(int, low=0, high=20, load_default=0, about="How many alternatives come with each token.")
    include = Typed(list, load_default=list, about=f"`{LOGPROBS}`, `{SEALED}`.")
    reasoning = Typed(
        dict,
        load_default=dict,
        holds=known.REASONING,
        about="`effort`: how much to think; `summary`: tell the reasoning as a summary.",
    )
    text = Typed(dict, load_default=dict, holds=known.TEXT, about="`format`: JSON, or JSON by a schema; enforced.")
    stream_options = Typed(
        dict, load_default=dict, holds=known.STREAM_OPTIONS, about="Nothing that it may hold has an effect."
    )
    tools = BodyField(
        load_default=None,
        schema={"type": "array", "items": {"type": "object"}},
        holds=known.TOOLS,
        about="Functions, custom tools, and namespaces of them.",
    )
    tool_choice = BodyField(
        load_default=None,
        schema={"anyOf": [{"enum": ["auto", "none", "required"]}, {"type": "object"}]},
        holds=known.TOOL_CHOICE,
        about="Whether tools are called, or which one; enforced.",
    )
    parallel_tool_calls = Typed(bool, load_default=True, about="`false` for one call at most: the answer ends with it.")
    truncation = Typed(
        str,
        load_default="disabled",
        schema={"enum": ["auto", "disabled"]},
        about="`auto`: a conversation that is too long loses its oldest messages, else it is refused.",
    )
    store = Typed(bool, load_default=True, about="Whether the response is kept, where the server keeps any.")
    previous_response_id = Typed(str, load_default=None, about="A kept response, which the conversation goes on from.")
    metadata = Typed(dict, load_default=dict, about="Sixteen texts by name; told again in the answer.")
    user = Typed(str, load_default=None, about="Told again in the answer.")
    safety_identifier = Typed(str, load_default=None, about="Told again in the answer.")
    prompt_cache_key = Typed(str, load_default=None, about="Told again in the answer.")
    prompt_cache_options = Ignored("prompts are found by their beginnings")
    prompt_cache_retention = Ignored("beginnings stay as long as there is memory")
    service_tier = Ignored("there is one tier")
    background = Refused("this server answers while you wait: leave 'background' out, and stream")
    conversation = Refused("use 'previous_response_id', or send all items in 'input'")
    prompt = Refused("there are no prompt templates here: send their text in 'instructions' and 'input'")
    background_options = Ignored("nothing runs in the background")
    access_programs = Ignored("no program opens more here")
    image = Ignored("pictures are not generated")
    context_management = Ignored("what to leave out of a long conversation is the caller's choice")
    moderation = Refused("this server has no moderation")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its checked `body`, its items without those before them, its tools, and `ignored`, what within its
    fields has no effect."""

    body: Mapping[str, Any]
    items: list[Json]
    tool_set: ToolSet
    tools: tuple[Tool, ...]
    tool_choice: ToolChoice
    think: bool | str | None
    format: OutputFormat | None
    ignored: list[str]

    @property
    def wants_summary(self) -> bool:
        """Whether the reasoning is asked for as a summary."""
        reasoning = self.body["reasoning"]
        return bool(reasoning.get("summary") or reasoning.get("generate_summary"))

    @property
    def wants_sealed(self) -> bool:
        """Whether reasoning comes with what the client may send back."""
        return SEALED in self.body["include"]

    @property
    def wants_logprobs(self) -> bool:
        return bool(LOGPROBS in self.body["include"] or self.body["top_logprobs"])


def parse_request(body: Mapping[str, Any]) -> Asked:
    """What the checked body asks for. Raises RequestError."""
    if body["truncation"] not in ("auto", "disabled"):
        raise InvalidRequestError("'truncation' must be 'auto' or 'disabled'", param="truncation")
    _check_metadata(body["metadata"])
    reader = ItemReader(body["model"])
    items = reader.read([] if body["input"] is None else body["input"])
    tool_set = parse_tools(body["tools"])
    tools, choice = parse_tool_choice(body["tool_choice"], tool_set, parallel=body["parallel_tool_calls"])
    format = parse_text_format(body["text"].get("format"), body["structured_outputs"])
    ignored = reader.ignored | tool_set.ignored | _without_effect(body)
    if tool_set.has_strict and choice.mode == "auto" and format is None:
        ignored.add("tools.strict")  # where nothing must be called, nothing holds the model to it
    return Asked(
        body=body,
        items=items,
        tool_set=tool_set,
        tools=tools,
        tool_choice=choice,
        think=parse_effort(body["reasoning"].get("effort"), "reasoning.effort"),
        format=format,
        ignored=sorted(ignored),
    )


def parse_call(asked: Asked, prompt: ChatPrompt) -> GenerateCall:
    """The neutral call for a prompt. Raises RequestError."""
    body = {**asked.body, "max_tokens": asked.body["max_output_tokens"]}
    options = sampling_options(body) | ({"top_logprobs": body["top_logprobs"]} if asked.wants_logprobs else {})
    may_cut = body["truncation"] == "auto"
    return GenerateCall(
        prompt=prompt,
        options=options,
        format=asked.format,
        truncate=may_cut,
        shift=may_cut,
        tells_progress=parse_progress(body),
    )


def parse_text_format(value: Any, structured: Mapping[str, Any]) -> OutputFormat | None:
    """`text.format`, or vLLM's `structured_outputs`. Raises InvalidRequestError."""
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise InvalidRequestError("'text.format' must be an object", param="text.format")
    kind = value.get("type")
    if kind in (None, "text"):
        return parse_response_format(None, structured)
    if structured:
        raise InvalidRequestError("'text.format' and 'structured_outputs' exclude each other", param="text.format")
    if kind == "json_object":
        return JsonObject()
    if kind != "json_schema":
        raise InvalidRequestError(
            "'text.format.type' must be 'text', 'json_object' or 'json_schema'", param="text.format"
        )
    if not isinstance(value.get("schema"), dict) or not isinstance(value.get("name"), str):
        raise InvalidRequestError("a format of type 'json_schema' needs a name and a schema", param="text.format")
    return JsonSchema(encode(value["schema"]).decode())


def _check_metadata(value: Mapping[str, Any]) -> None:
    if len(value) > _MAX_METADATA:
        raise InvalidRequestError(f"'metadata' may have {_MAX_METADATA} entries", param="metadata")
    for key, text in value.items():
        if len(key) > _MAX_KEY or not isinstance(text, str) or len(text) > _MAX_VALUE:
            raise InvalidRequestError(
                f"'metadata' maps names of at most {_MAX_KEY} characters to texts of at most {_MAX_VALUE}",
                param="metadata",
            )


def _without_effect(body: Mapping[str, Any]) -> set[str]:
    """What OpenAI's API includes and this one does not. Raises InvalidRequestError for what nobody knows."""
    found = set()
    for name in body["include"]:
        if isinstance(name, str) and name in _OF_TOOLS:
            found.add(f"include.{name}")
        elif name not in (LOGPROBS, SEALED):
            raise InvalidRequestError(f"'include' has an unknown value: {str(name)[:60]!r}", param="include")
    return found
