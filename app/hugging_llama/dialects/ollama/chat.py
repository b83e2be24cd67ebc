"""POST /api/chat."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import json_body
from hugging_llama.dialects.body_fields import BodyField
from hugging_llama.dialects.documented import OF_A_MODEL, documented, json_answer, lines_of
from hugging_llama.dialects.known_names import Names
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama import fields, request_fields, values
from hugging_llama.dialects.ollama.answers import answer, generate_call, stopwatch
from hugging_llama.dialects.ollama.render import AnswerRenderer, chat_piece
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.messages import Message, Tool, ToolCall, begins_answer
from hugging_llama.neutral.requests import ChatPrompt, GenerateCall

blueprint = Blueprint("ollama_chat", __name__)


class FunctionCallSchema(fields.GoSchema):
    """`function` of a tool call that the model made earlier."""

    go_name = "ToolCallFunction"

    index = fields.GoInt(load_default=0, about="Its place among the calls of a message.")
    name = fields.GoString(load_default="", about="The tool.")
    arguments = fields.GoMap(load_default=dict, about="What it was called with.")


class ToolCallSchema(fields.GoSchema):
    go_name = "ToolCall"
    also = ("type",)

    id = fields.GoString(load_default="", about="By which a result finds it.")
    function = fields.GoStruct(FunctionCallSchema, required=True, missing="a tool call has no function")


class MessageSchema(fields.GoSchema):
    go_name = "Message"

    role = fields.GoString(load_default="", about="`system`, `user`, `assistant`, `tool`, or what the template knows.")
    content = fields.GoString(load_default="", about="What was said.")
    thinking = fields.GoString(load_default="", about="What was thought before; for templates that ask for it.")
    images = request_fields.images()
    tool_calls = fields.GoList(fields.GoStruct(ToolCallSchema), load_default=list, about="Calls that were made.")
    tool_name = fields.GoString(load_default=None, about="Of a result: the tool.")
    tool_call_id = fields.GoString(load_default=None, about="Of a result: the call.")


class FunctionSchema(fields.GoSchema):
    go_name = "ToolFunction"

    name = fields.GoString(load_default="", about="By which it is called.")
    description = fields.GoString(load_default="", about="For the model.")
    parameters = fields.GoMap(load_default=dict, about="A JSON Schema of its arguments.")


class ToolSchema(fields.GoSchema):
    go_name = "Tool"
    also = ("type",)

    function = fields.GoStruct(FunctionSchema, required=True, missing="a tool has no function")


class ChatSchema(request_fields.AnswerSchema):
    """The request body."""

    go_name = "ChatRequest"

    messages = fields.GoList(
        fields.GoStruct(MessageSchema), load_default=list, about="The conversation; with none the model is loaded."
    )
    tools = fields.GoList(fields.GoStruct(ToolSchema), load_default=list, about="What the model may call.")
    tool_choice = BodyField(
        load_default=None,
        schema={"anyOf": [{"enum": ["", "auto", "none", "required"]}, {"type": "object"}]},
        holds=Names("type", inner={"function": Names("name")}),
        about="Ours: `auto`, `none`, `required`, or a tool by name, as OpenAI has it; enforced.",
    )
    parallel_tool_calls = fields.GoBool(
        load_default=True, about="Ours: `false` for one call at most: the answer ends with it."
    )


_schema = ChatSchema()


def parse_message(body: Mapping[str, Any]) -> Message:
    """One checked message as a neutral one."""
    calls = (
        ToolCall(
            id=call["id"],
            index=call["function"]["index"],
            name=call["function"]["name"],
            arguments=call["function"]["arguments"],
        )
        for call in body["tool_calls"]
    )
    return Message(
        role=body["role"].lower(),
        content=body["content"],
        thinking=body["thinking"],
        tool_calls=tuple(calls),
        tool_name=body["tool_name"],
        tool_call_id=body["tool_call_id"],
    )


def parse_chat(body: dict[str, Any]) -> GenerateCall:
    """The checked body as a neutral call. Raises RequestError."""
    for message in body["messages"]:
        values.refuse_images(message["images"], body["model"])
    messages = tuple(parse_message(message) for message in body["messages"])
    prompt = ChatPrompt(
        messages=messages,
        tools=tuple(Tool(**tool["function"]) for tool in body["tools"]),
        tool_choice=values.parse_tool_choice(body["tool_choice"], parallel=body["parallel_tool_calls"]),
        think=values.parse_think(body["think"]),
        continues=begins_answer(messages),
    )
    if prompt.tool_choice.mode == "required" and not prompt.tools:
        raise InvalidRequestError("tool_choice needs tools", param="tool_choice")
    return generate_call(body, prompt)


@blueprint.post("/api/chat")
@documented(
    json_answer(schemas.Chat),
    lines_of(schemas.Chat, schemas.OllamaError),
    request=_schema,
    headers=OF_A_MODEL,
    role="use",
)
def chat() -> Response:
    """Answer a chat; with no messages, load the model; with none and a keep_alive of zero, unload it."""
    watch = stopwatch()
    body = json_body(_schema)
    values.check_body(body)
    if not body["model"]:
        raise InvalidRequestError("model is required", param="model")
    render = AnswerRenderer(model=body["model"], piece=chat_piece, watch=watch)
    return answer(body, render, parse_chat, is_empty=not body["messages"])
