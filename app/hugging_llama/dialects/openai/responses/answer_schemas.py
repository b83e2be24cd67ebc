"""The objects in the answers of /v1/responses, for the OpenAPI document."""

from marshmallow import fields

from hugging_llama.dialects.documented import AnswerSchema
from hugging_llama.dialects.progress import Beginning

_EVENTS = (
    "response.created", "response.in_progress", "response.completed", "response.incomplete", "response.failed",
    "response.output_item.added", "response.output_item.done", "response.content_part.added",
    "response.content_part.done", "response.output_text.delta", "response.output_text.done",
    "response.reasoning_text.delta", "response.reasoning_text.done", "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done", "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done", "response.function_call_arguments.delta",
    "response.function_call_arguments.done", "response.custom_tool_call_input.delta",
    "response.custom_tool_call_input.done", "keepalive",
)  # fmt: skip


class InputTokensDetails(AnswerSchema):
    cached_tokens = fields.Integer(required=True)
    cache_write_tokens = fields.Integer(required=True)


class OutputTokensDetails(AnswerSchema):
    reasoning_tokens = fields.Integer(required=True)


class ResponseUsage(AnswerSchema):
    input_tokens = fields.Integer(required=True)
    input_tokens_details = fields.Nested(InputTokensDetails, required=True)
    output_tokens = fields.Integer(required=True)
    output_tokens_details = fields.Nested(OutputTokensDetails, required=True)
    total_tokens = fields.Integer(required=True)


class FailureOfResponse(AnswerSchema):
    code = fields.String(required=True)
    message = fields.String(required=True)


class IncompleteDetails(AnswerSchema):
    reason = fields.String(required=True)


class ReasoningOfResponse(AnswerSchema):
    effort = fields.String(required=True, allow_none=True)
    summary = fields.String(required=True, allow_none=True)


class TextOfResponse(AnswerSchema):
    format = fields.Dict(required=True)


class Response(AnswerSchema):
    """A response; its `output` are items: messages, reasoning, calls."""

    id = fields.String(required=True)
    object = fields.String(required=True)
    created_at = fields.Integer(required=True)
    completed_at = fields.Integer(required=True, allow_none=True)
    status = fields.String(required=True, metadata={"enum": ["in_progress", "completed", "incomplete", "failed"]})
    background = fields.Boolean(required=True)
    error = fields.Nested(FailureOfResponse, required=True, allow_none=True)
    incomplete_details = fields.Nested(IncompleteDetails, required=True, allow_none=True)
    instructions = fields.String(required=True, allow_none=True)
    max_output_tokens = fields.Integer(required=True, allow_none=True)
    max_tool_calls = fields.Raw(required=True, allow_none=True)
    model = fields.String(required=True)
    output = fields.List(fields.Dict(), required=True)
    parallel_tool_calls = fields.Boolean(required=True)
    previous_response_id = fields.String(required=True, allow_none=True)
    prompt_cache_key = fields.String(required=True, allow_none=True)
    reasoning = fields.Nested(ReasoningOfResponse, required=True)
    safety_identifier = fields.String(required=True, allow_none=True)
    service_tier = fields.String(required=True)
    store = fields.Boolean(required=True)
    temperature = fields.Float(required=True)
    top_p = fields.Float(required=True)
    presence_penalty = fields.Float(required=True)
    frequency_penalty = fields.Float(required=True)
    text = fields.Nested(TextOfResponse, required=True)
    tool_choice = fields.Raw(required=True, metadata={"type": ["string", "object"]})
    tools = fields.List(fields.Dict(), required=True)
    top_logprobs = fields.Integer(required=True)
    truncation = fields.String(required=True)
    usage = fields.Nested(ResponseUsage, required=True, allow_none=True)
    user = fields.String(required=True, allow_none=True)
    metadata = fields.Dict(required=True)


class ResponseEvent(AnswerSchema):
    """An event of a stream; the last one is `response.completed`, `response.incomplete` or `response.failed`."""

    type = fields.String(required=True, metadata={"enum": list(_EVENTS)})
    sequence_number = fields.Integer(required=True)
    response = fields.Nested(Response)
    output_index = fields.Integer()
    item = fields.Dict()
    item_id = fields.String()
    content_index = fields.Integer()
    summary_index = fields.Integer()
    part = fields.Dict()
    delta = fields.String()
    text = fields.String()
    logprobs = fields.List(fields.Dict())
    name = fields.String()
    arguments = fields.String()
    input = fields.String()
    progress = fields.Nested(Beginning)


class InputItems(AnswerSchema):
    object = fields.String(required=True)
    data = fields.List(fields.Dict(), required=True)
    first_id = fields.String(required=True)
    last_id = fields.String(required=True)
    has_more = fields.Boolean(required=True)


class DeletedResponse(AnswerSchema):
    id = fields.String(required=True)
    object = fields.String(required=True)
    deleted = fields.Boolean(required=True)
