"""POST /api/generate."""

from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import json_body, tell_ignored
from hugging_llama.dialects.body_fields import Ignored
from hugging_llama.dialects.documented import OF_A_MODEL, documented, json_answer, lines_of
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama import fields, request_fields, values
from hugging_llama.dialects.ollama.answers import answer, generate_call, stopwatch
from hugging_llama.dialects.ollama.go_template import to_jinja
from hugging_llama.dialects.ollama.render import AnswerRenderer, generate_piece
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.infill import takes_suffix
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.requests import ChatPrompt, GenerateCall, InsertPrompt, Prompt, TextPrompt

blueprint = Blueprint("ollama_generate", __name__)


class GenerateSchema(request_fields.AnswerSchema):
    """The request body."""

    go_name = "GenerateRequest"

    prompt = fields.GoString(load_default="", about="What to answer; with none the model is loaded.")
    suffix = fields.GoString(load_default="", about="What stands behind the gap that is to be filled.")
    system = fields.GoString(load_default="", about="In place of the model's own system text.")
    template = fields.GoString(load_default="", about="In place of the model's own: Jinja, or a Go template.")
    context = fields.GoList(fields.GoInt(), load_default=list, about="Token ids of an earlier answer's `context`.")
    raw = fields.GoBool(load_default=False, about="The prompt goes to the model as it is, without a template.")
    images = request_fields.images()
    width = Ignored("pictures are not generated")
    height = Ignored("pictures are not generated")
    steps = Ignored("pictures are not generated")


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
        if think:
            raise InvalidRequestError("a gap is filled without thinking: leave out think, or the suffix", param="think")
        has_no_place = bool(template) and not takes_suffix(template)
        tell_ignored([*(["system"] if body["system"] else []), *(["template"] if has_no_place else [])])
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
@documented(
    json_answer(schemas.Generate),
    lines_of(schemas.Generate, schemas.OllamaError),
    request=_schema,
    headers=OF_A_MODEL,
    role="use",
)
def generate() -> Response:
    """Complete a prompt; with none, load the model; with none and a keep_alive of zero, unload it."""
    watch = stopwatch()
    body = json_body(_schema)
    values.check_body(body)
    render = AnswerRenderer(model=body["model"], piece=generate_piece, watch=watch)
    return answer(body, render, parse_generate, is_empty=not body["prompt"])
