"""POST /v1/messages/count_tokens."""

from flask import Blueprint, Response

from hugging_llama.dialects.anthropic.create import parse_body, parse_prompt
from hugging_llama.dialects.anthropic.render import encode
from hugging_llama.dialects.base import Watched, app_context, json_payload, local_model
from hugging_llama.operations.tokenization import tokenize

blueprint = Blueprint("anthropic_count_tokens", __name__)


@blueprint.post("/v1/messages/count_tokens")
def count_tokens() -> Response:
    """How many tokens the prompt of a message would have, by the model's own tokenizer and template."""
    # how long the answer may be counts for nothing here
    body = parse_body(json_payload(empty="EOF") | {"max_tokens": 1})
    model = local_model(body["model"])
    (found,) = Watched(tokenize(app_context(), model, body["model"], parse_prompt(body, model))).drain()
    return Response(encode({"input_tokens": len(found.token_ids)}), content_type="application/json")
