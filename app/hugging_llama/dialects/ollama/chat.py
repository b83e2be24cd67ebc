"""POST /api/chat."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from hugging_llama.dialects.base import json_payload, local_model
from hugging_llama.dialects.ollama import fields, values
from hugging_llama.dialects.ollama.answers import (
    answer_generation,
    answer_load,
    answer_unload,
    request_options,
    stopwatch,
)
from hugging_llama.dialects.ollama.render import AnswerRenderer, chat_piece
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.messages import Message, Tool, ToolCall
from hugging_llama.neutral.models import Capability
from hugging_llama.neutral.requests import ChatPrompt, GenerateCall
from hugging_llama.operations.generation import require

blueprint = Blueprint("ollama_chat", __name__)


class FunctionCallSchema(fields.GoSchema):
    """`function` of a tool call that the model made earlier."""

    go_name = "ToolCallFunction"

    index = fields.GoInt(load_default=0)
    name = fields.GoString(load_default="")
    arguments = fields.GoMap(load_default=dict)


class ToolCallSchema(fields.GoSchema):
    go_name = "ToolCall"

    id = fields.GoString(load_default="")
    function = fields.GoStruct(FunctionCallSchema, required=True, missing="a tool call has no function")


class MessageSchema(fields.GoSchema):
    go_name = "Message"

    role = fields.GoString(load_default="")
    content = fields.GoString(load_default="")
    thinking = fields.GoString(load_default="")
    images = fields.GoList(fields.GoString(), load_default=list)
    tool_calls = fields.GoList(fields.GoStruct(ToolCallSchema), load_default=list)
    tool_name = fields.GoString(load_default=None)
    tool_call_id = fields.GoString(load_default=None)


class FunctionSchema(fields.GoSchema):
    go_name = "ToolFunction"

    name = fields.GoString(load_default="")
    description = fields.GoString(load_default="")
    parameters = fields.GoMap(load_default=dict)


class ToolSchema(fields.GoSchema):
    go_name = "Tool"

    function = fields.GoStruct(FunctionSchema, required=True, missing="a tool has no function")


class ChatSchema(fields.GoSchema):
    """The request body."""

    go_name = "ChatRequest"

    model = fields.GoString(load_default="")
    messages = fields.GoList(fields.GoStruct(MessageSchema), load_default=list)
    tools = fields.GoList(fields.GoStruct(ToolSchema), load_default=list)
    stream = fields.GoBool(load_default=True)
    format = fields.GoAny(load_default=None)
    keep_alive = fields.GoAny(load_default=None)
    options = fields.GoMap(load_default=dict)
    think = fields.GoAny(load_default=None)
    truncate = fields.GoBool(load_default=True)
    shift = fields.GoBool(load_default=True)
    logprobs = fields.GoBool(load_default=False)
    top_logprobs = fields.GoInt(load_default=0)
    debug_render_only = fields.GoBool(data_key="_debug_render_only", load_default=False)


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
    if body["debug_render_only"]:
        raise InvalidRequestError("_debug_render_only is not supported by this version yet", param="_debug_render_only")
    for message in body["messages"]:
        values.refuse_images(message["images"], body["model"])
    options = request_options(body["options"])
    tools = tuple(Tool(**tool["function"]) for tool in body["tools"])
    output_format = values.parse_format(body["format"])
    prompt = ChatPrompt(
        messages=tuple(parse_message(message) for message in body["messages"]),
        tools=tools,
        think=values.parse_think(body["think"]),
    )
    return GenerateCall(
        prompt=prompt,
        options=options.sampling,
        format=output_format,
        context_length=options.context_length,
        keep_alive_s=values.parse_keep_alive(body["keep_alive"]),
        truncate=body["truncate"],
    )


@blueprint.post("/api/chat")
def chat() -> Response:
    """Answer a chat; with no messages, load the model; with none and a keep_alive of zero, unload it."""
    watch = stopwatch()
    body = _schema.parse(json_payload())
    values.refuse_logprobs(body["logprobs"], body["top_logprobs"])
    if not body["model"]:
        raise InvalidRequestError("model is required", param="model")
    render = AnswerRenderer(model=body["model"], piece=chat_piece, watch=watch)
    model = local_model(body["model"])
    if not body["messages"] and values.parse_keep_alive(body["keep_alive"]) == 0:
        return answer_unload(model, render)
    require(model, body["model"], Capability.COMPLETION)
    call = parse_chat(body)
    if not body["messages"]:
        return answer_load(model, call, render)
    return answer_generation(model, body["model"], call, render, stream=body["stream"])
