"""The objects in Anthropic's answers, for the OpenAPI document. A field that is not required comes where it has a
value."""

from marshmallow import fields

from hugging_llama.dialects.documented import AnswerSchema
from hugging_llama.dialects.progress import Beginning


def _type(name: str) -> fields.String:
    return fields.String(required=True, metadata={"enum": [name]})


class AnthropicErrorDetails(AnswerSchema):
    """What a client may do about it by itself."""

    error_code = fields.String(required=True)


class AnthropicErrorFacts(AnswerSchema):
    type = fields.String(required=True)
    message = fields.String(required=True)
    details = fields.Nested(AnthropicErrorDetails)


class AnthropicError(AnswerSchema):
    """The answer to a request that failed, and the last event of a stream that did."""

    type = _type("error")
    error = fields.Nested(AnthropicErrorFacts, required=True)
    request_id = fields.String(required=True)


class MessageUsage(AnswerSchema):
    input_tokens = fields.Integer(required=True)
    output_tokens = fields.Integer(required=True)
    cache_creation_input_tokens = fields.Integer()
    cache_read_input_tokens = fields.Integer()


class ContentBlock(AnswerSchema):
    """Text, thinking, or the use of a tool."""

    type = fields.String(required=True, metadata={"enum": ["text", "thinking", "tool_use"]})
    text = fields.String()
    thinking = fields.String()
    signature = fields.String()
    id = fields.String()
    name = fields.String()
    input = fields.Dict()


class AnthropicMessage(AnswerSchema):
    id = fields.String(required=True)
    type = _type("message")
    role = fields.String(required=True)
    model = fields.String(required=True)
    content = fields.List(fields.Nested(ContentBlock), required=True)
    stop_reason = fields.String(required=True, allow_none=True)
    stop_sequence = fields.String(required=True, allow_none=True)
    usage = fields.Nested(MessageUsage, required=True)


class MessageStart(AnswerSchema):
    type = _type("message_start")
    message = fields.Nested(AnthropicMessage, required=True)


class ContentBlockStart(AnswerSchema):
    type = _type("content_block_start")
    index = fields.Integer(required=True)
    content_block = fields.Nested(ContentBlock, required=True)


class Delta(AnswerSchema):
    type = fields.String(
        required=True, metadata={"enum": ["text_delta", "thinking_delta", "signature_delta", "input_json_delta"]}
    )
    text = fields.String()
    thinking = fields.String()
    signature = fields.String()
    partial_json = fields.String()


class ContentBlockDelta(AnswerSchema):
    type = _type("content_block_delta")
    index = fields.Integer(required=True)
    delta = fields.Nested(Delta, required=True)


class ContentBlockStop(AnswerSchema):
    type = _type("content_block_stop")
    index = fields.Integer(required=True)


class StopDelta(AnswerSchema):
    stop_reason = fields.String(required=True)
    stop_sequence = fields.String(required=True, allow_none=True)


class MessageDelta(AnswerSchema):
    type = _type("message_delta")
    delta = fields.Nested(StopDelta, required=True)
    usage = fields.Nested(MessageUsage, required=True)


class Ping(AnswerSchema):
    """Before the message, where `progress` is asked for; clients pass it over."""

    type = _type("ping")
    progress = fields.Nested(Beginning, required=True)


class MessageStop(AnswerSchema):
    type = _type("message_stop")


EVENTS = (
    MessageStart,
    ContentBlockStart,
    ContentBlockDelta,
    ContentBlockStop,
    MessageDelta,
    MessageStop,
    Ping,
    AnthropicError,
)


class TokenCount(AnswerSchema):
    input_tokens = fields.Integer(required=True)
