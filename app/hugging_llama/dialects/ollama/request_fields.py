"""Fields that several requests have, each made anew for its schema."""

from hugging_llama.dialects.body_fields import BodyField, JsonSchema
from hugging_llama.dialects.ollama import fields
from hugging_llama.dialects.progress import ABOUT_PROGRESS

_STRING: JsonSchema = {"type": "string"}
_THINK_LEVELS = ["low", "medium", "high", "max"]


def model(*, must: bool = True) -> fields.GoString:
    """`must` False where `name` may stand in its place."""
    return fields.GoString(load_default="", must=must, about="The model: its name on the Hub, or one of your own.")


def old_name() -> fields.GoString:
    return fields.GoString(load_default="", about="Older spelling of `model`.")


def stream() -> fields.GoBool:
    return fields.GoBool(load_default=True, about="One JSON object a line as they come; `false`: one in all.")


def insecure() -> fields.GoBool:
    return fields.GoBool(load_default=False, about="Refused if true: the Hub's address is the operator's setting.")


def keep_alive() -> BodyField:
    return BodyField(
        load_default=None,
        schema={"anyOf": [{"type": "number"}, _STRING]},
        about="How long the model stays in memory afterwards: seconds, or a duration such as `5m`; negative: for ever.",
    )


def options(about: str = "How to generate; see docs/api/generation.md.") -> fields.GoMap:
    return fields.GoMap(load_default=dict, about=about)


def think() -> BodyField:
    return BodyField(
        load_default=None,
        schema={"anyOf": [{"type": "boolean"}, {"enum": _THINK_LEVELS}]},
        about="Whether, or how much, to think first; on by default where the model can.",
    )


def truncate(about: str) -> fields.GoBool:
    return fields.GoBool(load_default=True, about=about)


def images() -> fields.GoList:
    return fields.GoList(
        fields.GoString(), load_default=list, about="Pictures in base64; refused, as no model here can see."
    )


class AnswerSchema(fields.GoSchema):
    """What the requests for an answer, of a chat or to a prompt, have alike."""

    model = model()
    stream = stream()
    format = BodyField(
        load_default=None,
        schema={"anyOf": [{"enum": ["", "json"]}, {"type": "object"}]},
        about="`json`, or a JSON Schema that the answer must be valid by.",
    )
    structured_outputs = fields.GoMap(
        load_default=None,
        about="Ours: one of `regex`, `choice`, `grammar`, `json` and `json_object`, which the answer must obey.",
    )
    keep_alive = keep_alive()
    options = options()
    think = think()
    truncate = truncate("`false`: refuse a prompt that is too long, instead of dropping messages.")
    shift = fields.GoBool(load_default=True, about="Whether the oldest tokens go when the context is full.")
    logprobs = fields.GoBool(load_default=False, about="Log-probabilities of the tokens.")
    top_logprobs = fields.GoInt(
        load_default=0, schema={"minimum": 0, "maximum": 20}, about="How many alternatives come with each token."
    )
    progress = fields.GoBool(load_default=False, about=ABOUT_PROGRESS)
    debug_render_only = fields.GoBool(
        data_key="_debug_render_only", load_default=False, about="Answer with the rendered prompt alone."
    )
