"""The objects in Ollama's answers, for the OpenAPI document; what is not required comes where it has a value."""

from marshmallow import fields

from hugging_llama.dialects.documented import AnswerSchema
from hugging_llama.dialects.progress import Beginning


class OllamaError(AnswerSchema):
    """The answer to a request that failed, and the last line of a stream that did."""

    error = fields.String(required=True)


class Version(AnswerSchema):
    version = fields.String(required=True)


class Cloud(AnswerSchema):
    disabled = fields.Boolean(required=True)
    source = fields.String(required=True)


class Status(AnswerSchema):
    cloud = fields.Nested(Cloud, required=True)


class Recommendations(AnswerSchema):
    recommendations = fields.List(fields.Dict(), required=True)


class Details(AnswerSchema):
    parent_model = fields.String(required=True)
    format = fields.String()
    family = fields.String()
    families = fields.List(fields.String(), required=True, allow_none=True)
    parameter_size = fields.String()
    quantization_level = fields.String()
    context_length = fields.Integer()
    embedding_length = fields.Integer()
    adapter = fields.String()
    device = fields.String()
    dtype = fields.String()
    runner = fields.String()
    runner_reason = fields.String()
    linear = fields.String()


class LocalModel(AnswerSchema):
    name = fields.String(required=True)
    model = fields.String(required=True)
    modified_at = fields.String(required=True)
    size = fields.Integer(required=True)
    digest = fields.String(required=True)
    details = fields.Nested(Details, required=True)
    capabilities = fields.List(fields.String(), required=True)


class Tags(AnswerSchema):
    models = fields.List(fields.Nested(LocalModel), required=True)


class LoadedModel(AnswerSchema):
    name = fields.String(required=True)
    model = fields.String(required=True)
    size = fields.Integer(required=True)
    digest = fields.String(required=True)
    details = fields.Nested(Details, required=True)
    expires_at = fields.String(required=True)
    size_vram = fields.Integer(required=True)
    context_length = fields.Integer(required=True)
    ref_count = fields.Integer(required=True)


class Ps(AnswerSchema):
    models = fields.List(fields.Nested(LoadedModel), required=True)


class Turn(AnswerSchema):
    role = fields.String(required=True)
    content = fields.String(required=True)


class Tensor(AnswerSchema):
    name = fields.String(required=True)
    type = fields.String(required=True)
    shape = fields.List(fields.Integer(), required=True)


class Show(AnswerSchema):
    license = fields.String()
    modelfile = fields.String()
    parameters = fields.String()
    template = fields.String()
    system = fields.String()
    messages = fields.List(fields.Nested(Turn))
    details = fields.Nested(Details)
    model_info = fields.Dict(required=True)
    capabilities = fields.List(fields.String())
    tool_format = fields.String()
    thinking_tags = fields.List(fields.String())
    requires = fields.String()
    modified_at = fields.String()
    memory = fields.Dict()
    tensors = fields.List(fields.Nested(Tensor))


class TopLogprob(AnswerSchema):
    token = fields.String(required=True)
    logprob = fields.Float(required=True)
    bytes = fields.List(fields.Integer(), required=True)


class Logprob(TopLogprob):
    top_logprobs = fields.List(fields.Nested(TopLogprob))


class CalledFunction(AnswerSchema):
    index = fields.Integer(required=True)
    name = fields.String(required=True)
    arguments = fields.Dict(required=True)


class Call(AnswerSchema):
    id = fields.String(required=True)
    function = fields.Nested(CalledFunction, required=True)


class ChatMessage(AnswerSchema):
    role = fields.String(required=True)
    content = fields.String(required=True)
    thinking = fields.String()
    tool_calls = fields.List(fields.Nested(Call))


class DebugInfo(AnswerSchema):
    rendered_template = fields.String(required=True)


class _Generated(AnswerSchema):
    model = fields.String(required=True)
    created_at = fields.String(required=True)
    done = fields.Boolean(required=True)
    done_reason = fields.String()
    context = fields.List(fields.Integer())
    truncated_tokens = fields.Integer()
    total_duration = fields.Float(metadata={"description": "Nanoseconds, as all durations."})
    load_duration = fields.Float()
    prompt_eval_count = fields.Integer()
    prompt_eval_duration = fields.Float()
    eval_count = fields.Integer()
    eval_duration = fields.Float()
    logprobs = fields.List(fields.Nested(Logprob))
    progress = fields.Nested(Beginning)
    debug_info = fields.Nested(DebugInfo, data_key="_debug_info")


class Chat(_Generated):
    message = fields.Nested(ChatMessage, required=True)


class Generate(_Generated):
    response = fields.String(required=True)
    thinking = fields.String()
    tool_calls = fields.List(fields.Nested(Call))


class Embed(AnswerSchema):
    model = fields.String(required=True)
    embeddings = fields.List(fields.List(fields.Float()), required=True)
    total_duration = fields.Float()
    load_duration = fields.Float()
    prompt_eval_count = fields.Integer()


class Embedding(AnswerSchema):
    embedding = fields.List(fields.Float(), required=True)


class RankedDocument(AnswerSchema):
    index = fields.Integer(required=True)
    document = fields.String(required=True)
    relevance_score = fields.Float(required=True)


class Rerank(AnswerSchema):
    model = fields.String(required=True)
    results = fields.List(fields.Nested(RankedDocument), required=True)
    total_duration = fields.Float()
    load_duration = fields.Float()
    prompt_eval_count = fields.Integer()


class Tokenize(AnswerSchema):
    model = fields.String(required=True)
    tokens = fields.List(fields.Integer(), required=True)
    count = fields.Integer(required=True)
    total_duration = fields.Float(required=True)
    load_duration = fields.Float(required=True)


class Detokenize(AnswerSchema):
    model = fields.String(required=True)
    content = fields.String(required=True)
    total_duration = fields.Float(required=True)
    load_duration = fields.Float(required=True)


class Progress(AnswerSchema):
    """A step of a pull, push or creation; the last one's `status` is `success`."""

    status = fields.String(required=True)
    digest = fields.String()
    path = fields.String()
    file = fields.String()
    total = fields.Integer()
    completed = fields.Integer()
    overall_total = fields.Integer()
    overall_completed = fields.Integer()
