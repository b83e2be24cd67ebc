"""The objects in OpenAI's answers, for the OpenAPI document; what is not required comes where it has a value."""

from marshmallow import fields

from hugging_llama.dialects.documented import AnswerSchema
from hugging_llama.dialects.progress import Beginning


class OpenAIErrorFacts(AnswerSchema):
    message = fields.String(required=True)
    type = fields.String(required=True)
    param = fields.String(required=True, allow_none=True)
    code = fields.String(required=True)


class OpenAIError(AnswerSchema):
    """The answer to a request that failed, and the last event of a stream that did."""

    error = fields.Nested(OpenAIErrorFacts, required=True)


class PromptTokensDetails(AnswerSchema):
    cached_tokens = fields.Integer(required=True)


class CompletionTokensDetails(AnswerSchema):
    reasoning_tokens = fields.Integer(required=True)


class CompletionUsage(AnswerSchema):
    prompt_tokens = fields.Integer(required=True)
    completion_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)
    prompt_tokens_details = fields.Nested(PromptTokensDetails, required=True)
    completion_tokens_details = fields.Nested(CompletionTokensDetails, required=True)


class _Completion(AnswerSchema):
    id = fields.String(required=True)
    object = fields.String(required=True)
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    system_fingerprint = fields.String(required=True)


class FunctionOfCall(AnswerSchema):
    name = fields.String(required=True)
    arguments = fields.String(required=True, metadata={"description": "JSON text."})


class ToolCallOfMessage(AnswerSchema):
    index = fields.Integer(required=True)
    id = fields.String(required=True)
    type = fields.String(required=True)
    function = fields.Nested(FunctionOfCall, required=True)


class TopTokenLogprob(AnswerSchema):
    token = fields.String(required=True)
    logprob = fields.Float(required=True)
    bytes = fields.List(fields.Integer(), required=True)


class TokenLogprob(TopTokenLogprob):
    top_logprobs = fields.List(fields.Nested(TopTokenLogprob), required=True)


class ChoiceLogprobs(AnswerSchema):
    content = fields.List(fields.Nested(TokenLogprob), required=True)
    refusal = fields.Raw(allow_none=True)


class AnswerMessage(AnswerSchema):
    role = fields.String(required=True)
    content = fields.String(required=True)
    refusal = fields.String(required=True, allow_none=True)
    reasoning = fields.String()
    tool_calls = fields.List(fields.Nested(ToolCallOfMessage))


class ChatChoice(AnswerSchema):
    index = fields.Integer(required=True)
    message = fields.Nested(AnswerMessage, required=True)
    logprobs = fields.Nested(ChoiceLogprobs, required=True, allow_none=True)
    finish_reason = fields.String(required=True)


class ChatCompletion(_Completion):
    choices = fields.List(fields.Nested(ChatChoice), required=True)
    usage = fields.Nested(CompletionUsage, required=True)


class ChatDelta(AnswerSchema):
    role = fields.String()
    content = fields.String()
    reasoning = fields.String()
    tool_calls = fields.List(fields.Nested(ToolCallOfMessage))


class ChunkChoice(AnswerSchema):
    index = fields.Integer(required=True)
    delta = fields.Nested(ChatDelta, required=True)
    finish_reason = fields.String(required=True, allow_none=True)
    logprobs = fields.Nested(ChoiceLogprobs)


class ChatCompletionChunk(_Completion):
    """Behind the last one comes `[DONE]`."""

    choices = fields.List(fields.Nested(ChunkChoice), required=True)
    usage = fields.Nested(CompletionUsage)
    progress = fields.Nested(Beginning)


class TextLogprobs(AnswerSchema):
    tokens = fields.List(fields.String(), required=True)
    token_logprobs = fields.List(fields.Float(allow_none=True), required=True)
    top_logprobs = fields.List(fields.Dict(allow_none=True), required=True)
    text_offset = fields.List(fields.Integer(), required=True)


class TextChoice(AnswerSchema):
    text = fields.String(required=True)
    index = fields.Integer(required=True)
    logprobs = fields.Nested(TextLogprobs, required=True, allow_none=True)
    finish_reason = fields.String(required=True, allow_none=True)


class TextCompletion(_Completion):
    """Whole, or a chunk; behind the last chunk comes `[DONE]`."""

    choices = fields.List(fields.Nested(TextChoice), required=True)
    usage = fields.Nested(CompletionUsage)
    progress = fields.Nested(Beginning)


class EmbeddingItem(AnswerSchema):
    object = fields.String(required=True)
    embedding = fields.Raw(
        required=True, metadata={"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]}
    )
    index = fields.Integer(required=True)


class PromptUsage(AnswerSchema):
    prompt_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)


class EmbeddingList(AnswerSchema):
    object = fields.String(required=True)
    data = fields.List(fields.Nested(EmbeddingItem), required=True)
    model = fields.String(required=True)
    usage = fields.Nested(PromptUsage, required=True)


class DocumentText(AnswerSchema):
    text = fields.String(required=True)


class RankedResult(AnswerSchema):
    index = fields.Integer(required=True)
    relevance_score = fields.Float(required=True)
    document = fields.Nested(DocumentText)


class Ranking(AnswerSchema):
    id = fields.String(required=True)
    object = fields.String(required=True)
    model = fields.String(required=True)
    results = fields.List(fields.Nested(RankedResult), required=True)
    usage = fields.Nested(PromptUsage, required=True)
    meta = fields.Dict(required=True, metadata={"description": "What Cohere's clients read."})


class ClassifyUsage(PromptUsage):
    completion_tokens = fields.Integer(required=True)


class ClassifiedItem(AnswerSchema):
    index = fields.Integer(required=True)
    label = fields.String(required=True)
    probs = fields.List(fields.Float(), required=True)
    num_classes = fields.Integer(required=True)


class Classification(AnswerSchema):
    id = fields.String(required=True)
    object = fields.String(required=True)
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    data = fields.List(fields.Nested(ClassifiedItem), required=True)
    usage = fields.Nested(ClassifyUsage, required=True)


class Model(AnswerSchema):
    id = fields.String(required=True)
    object = fields.String(required=True)
    created = fields.Integer(required=True)
    owned_by = fields.String(required=True)
    type = fields.String(metadata={"description": "This and what follows for Anthropic's clients."})
    display_name = fields.String()
    created_at = fields.String()
    lifecycle = fields.String()


class ModelList(AnswerSchema):
    object = fields.String(required=True)
    data = fields.List(fields.Nested(Model), required=True)
    has_more = fields.Boolean(metadata={"description": "This and what follows for Anthropic's clients."})
    first_id = fields.String(allow_none=True)
    last_id = fields.String(allow_none=True)
