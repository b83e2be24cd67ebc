"""POST /api/tokenize, which Ollama does not have: the token ids of a text or of a chat."""

from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import Watched, app_context, json_body, local_model
from hugging_llama.dialects.documented import documented, json_answer
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama import fields, request_fields, values
from hugging_llama.dialects.ollama.answers import json_response, stopwatch
from hugging_llama.dialects.ollama.chat import MessageSchema, ToolSchema, parse_message
from hugging_llama.dialects.ollama.go_template import to_jinja
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.messages import Tool, begins_answer
from hugging_llama.neutral.requests import ChatPrompt, Prompt, TextPrompt
from hugging_llama.operations import tokenization

blueprint = Blueprint("ollama_tokenize", __name__)

MAX_BODY_BYTES = 2 * 2**20
"""A long book. While a text is tokenised the model's other prompts wait, and its million ids hold up every step."""


class TokenizeSchema(fields.GoSchema):
    """The request body."""

    go_name = "TokenizeRequest"

    model = request_fields.model()
    content = fields.GoString(load_default=None, about="A text, as `raw` would give it to the model.")
    prompt = fields.GoString(load_default=None, about="Another name of `content`.")
    add_special_tokens = fields.GoBool(load_default=True, about="`false`: without what stands around a text.")
    messages = fields.GoList(fields.GoStruct(MessageSchema), load_default=list, about="In place of a text, a chat.")
    tools = fields.GoList(fields.GoStruct(ToolSchema), load_default=list, about="Of the chat.")
    think = request_fields.think()
    template = fields.GoString(load_default="", about="In place of the model's own: Jinja, or a Go template.")
    keep_alive = request_fields.keep_alive()


_schema = TokenizeSchema()


def parse_prompt(body: dict[str, Any]) -> Prompt:
    """A text by either of its names, or a chat. Raises RequestError."""
    texts = [text for text in (body["content"], body["prompt"]) if text is not None]
    if len(texts) + bool(body["messages"]) != 1:
        raise InvalidRequestError("exactly one of content, prompt and messages is needed", param="content")
    if texts:
        for name in ("tools", "think", "template"):
            if body[name] not in (None, "", []):
                raise InvalidRequestError(f"{name} goes with messages", param=name)
        return TextPrompt(text=texts[0])
    if not body["add_special_tokens"]:
        raise InvalidRequestError(
            "add_special_tokens goes with content; a chat's are those of its template", param="add_special_tokens"
        )
    for message in body["messages"]:
        values.refuse_images(message["images"], body["model"])
    messages = tuple(parse_message(message) for message in body["messages"])
    return ChatPrompt(
        messages=messages,
        tools=tuple(Tool(**tool["function"]) for tool in body["tools"]),
        think=values.parse_think(body["think"]),
        template=to_jinja(body["template"]),
        continues=begins_answer(messages),
    )


@blueprint.post("/api/tokenize")
@documented(json_answer(schemas.Tokenize), request=_schema, role="use")
def tokenize() -> Response:
    """The ids that the model would get, and how many they are."""
    watch = stopwatch()
    body = json_body(_schema, limit=MAX_BODY_BYTES)
    keep_alive_s = values.parse_keep_alive(body["keep_alive"])
    model = local_model(body["model"])
    tokens = tokenization.tokenize(
        app_context(),
        model,
        body["model"],
        parse_prompt(body),
        add_special_tokens=body["add_special_tokens"],
        keep_alive_s=keep_alive_s,
    )
    answer = Watched(tokens).drain()[0]
    return json_response(
        {
            "model": body["model"],
            "tokens": answer.token_ids,
            "count": len(answer.token_ids),
            "total_duration": watch.total(),
            "load_duration": watch.duration(answer.load_ns),
        }
    )
