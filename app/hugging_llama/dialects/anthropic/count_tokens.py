"""POST /v1/messages/count_tokens."""

from flask import Blueprint, Response

from hugging_llama.dialects.anthropic import answer_schemas as schemas
from hugging_llama.dialects.anthropic.body import CountSchema, check, parse_prompt
from hugging_llama.dialects.anthropic.render import encode
from hugging_llama.dialects.base import Watched, app_context, json_body, local_model
from hugging_llama.dialects.documented import documented, json_answer
from hugging_llama.operations.tokenization import tokenize

blueprint = Blueprint("anthropic_count_tokens", __name__)

_schema = CountSchema()


@blueprint.post("/v1/messages/count_tokens")
@documented(json_answer(schemas.TokenCount), request=_schema, role="use")
def count_tokens() -> Response:
    """How many tokens the prompt of a message would have, by the model's own tokenizer and template."""
    body = json_body(_schema, empty="EOF")
    check(body)
    model = local_model(body["model"])
    (found,) = Watched(tokenize(app_context(), model, body["model"], parse_prompt(body, model))).drain()
    return Response(encode({"input_tokens": len(found.token_ids)}), content_type="application/json")
