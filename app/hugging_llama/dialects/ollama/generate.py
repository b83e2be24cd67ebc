"""POST /api/generate."""

from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import json_payload
from hugging_llama.dialects.ollama import fields, values
from hugging_llama.dialects.ollama.answers import answer, generate_call, stopwatch
from hugging_llama.dialects.ollama.go_template import to_jinja
from hugging_llama.dialects.ollama.render import AnswerRenderer, generate_piece
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.requests import ChatPrompt, GenerateCall, InsertPrompt, Prompt, TextPrompt

blueprint = Blueprint("ollama_generate", __name__)


class GenerateSchema(fields.GoSchema):
    """The request body."""

    go_name = "GenerateRequest"

    model = fields.GoString(load_default="")
    prompt = fields.GoString(load_default="")
    suffix = fields.GoString(load_default="")
    system = fields.GoString(load_default="")
    template = fields.GoString(load_default="")
    context = fields.GoList(fields.GoInt(), load_default=list)
    stream = fields.GoBool(load_default=True)
    raw = fields.GoBool(load_default=False)
    format = fields.GoAny(load_default=None)
    keep_alive = fields.GoAny(load_default=None)
    images = fields.GoList(fields.GoString(), load_default=list)
    options = fields.GoMap(load_default=dict)
    think = fields.GoAny(load_default=None)
    truncate = fields.GoBool(load_default=True)
    shift = fields.GoBool(load_default=True)
    logprobs = fields.GoBool(load_default=False)
    top_logprobs = fields.GoInt(load_default=0)
    debug_render_only = fields.GoBool(data_key="_debug_render_only", load_default=False)


_schema = GenerateSchema()


def parse_prompt(body: dict[str, Any]) -> Prompt:
    """A raw prompt as it is, a gap to fill if there is a suffix; anything else is a chat of one turn.

    Raises InvalidRequestError.
    """
    think = values.parse_think(body["think"])
    if body["raw"]:
        return _raw_prompt(body)
    template = to_jinja(body["template"])
    if body["suffix"]:
        if body["context"]:
            raise InvalidRequestError("a suffix and a context can't be combined", param="context")
        return InsertPrompt(prefix=body["prompt"], suffix=body["suffix"], template=template)
    messages = [Message(role="user", content=body["prompt"])]
    if body["system"]:
        messages.insert(0, Message(role="system", content=body["system"]))
    return ChatPrompt(messages=tuple(messages), think=think, context=tuple(body["context"]), template=template)


def _raw_prompt(body: dict[str, Any]) -> TextPrompt:
    if body["template"] or body["system"] or body["context"]:
        raise InvalidRequestError("raw mode does not support template, system, or context", param="raw")
    if body["suffix"]:
        raise InvalidRequestError("raw mode does not support suffix", param="suffix")
    return TextPrompt(text=body["prompt"])


def parse_generate(body: dict[str, Any]) -> GenerateCall:
    """The checked body as a neutral call. Raises RequestError."""
    values.refuse_images(body["images"], body["model"])
    prompt = parse_prompt(body)
    return generate_call(body, prompt, return_context=isinstance(prompt, ChatPrompt))


@blueprint.post("/api/generate")
def generate() -> Response:
    """Complete a prompt; with none, load the model; with none and a keep_alive of zero, unload it."""
    watch = stopwatch()
    body = _schema.parse(json_payload())
    values.check_top_logprobs(body["top_logprobs"])
    render = AnswerRenderer(model=body["model"], piece=generate_piece, watch=watch)
    return answer(body, render, parse_generate, is_empty=not body["prompt"])
