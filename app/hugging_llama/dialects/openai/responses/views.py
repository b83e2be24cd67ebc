"""POST /v1/responses, and the responses that were kept."""

from flask import Blueprint, Response, request

from hugging_llama.dialects.base import (
    Watched,
    app_context,
    json_body,
    local_model,
    stream_response,
    tell_ignored,
)
from hugging_llama.dialects.documented import OF_A_MODEL, documented, events_of, json_answer
from hugging_llama.dialects.openai.answers import json_response
from hugging_llama.dialects.openai.render import SSE
from hugging_llama.dialects.openai.responses import answer_schemas as schemas
from hugging_llama.dialects.openai.responses import state
from hugging_llama.dialects.openai.responses.answer import Answer
from hugging_llama.dialects.openai.responses.conversation import parse_conversation
from hugging_llama.dialects.openai.responses.render import ResponseRenderer
from hugging_llama.dialects.openai.responses.response import new_response
from hugging_llama.dialects.openai.responses.schema import ResponsesSchema, parse_call, parse_request
from hugging_llama.dialects.openai.sampling import require_name
from hugging_llama.dialects.start_headers import start_headers
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.models import Capability
from hugging_llama.neutral.requests import ChatPrompt
from hugging_llama.operations import generation, responses

blueprint = Blueprint("openai_responses", __name__)

_schema = ResponsesSchema()


@blueprint.post("/v1/responses")
@documented(
    json_answer(schemas.Response), events_of(schemas.ResponseEvent), request=_schema, headers=OF_A_MODEL, role="use"
)
def create_response() -> Response:
    """Answer a conversation, in one object or as a stream of server-sent events."""
    asked = parse_request(json_body(_schema, empty="EOF"))
    tell_ignored(asked.ignored)
    body, ctx = asked.body, app_context()
    require_name(body)
    model = local_model(body["model"])
    generation.require(model, body["model"], Capability.COMPLETION)
    earlier = state.earlier_items(ctx, body["previous_response_id"])
    items = state.resolve_references(ctx, asked.items, earlier)
    prompt = ChatPrompt(
        messages=parse_conversation(body["instructions"], [*earlier, *items]),
        tools=asked.tools,
        tool_choice=asked.tool_choice,
        think=asked.think,
    )
    call = parse_call(asked, prompt)
    is_stored = body["store"] and responses.keeps_responses(ctx)
    render = ResponseRenderer(
        response=new_response(asked, is_stored=is_stored),
        answer=Answer(asked.tool_set, summarises=asked.wants_summary, seals=asked.wants_sealed),
        keep=state.keeper(ctx, items) if is_stored else None,
    )
    events = Watched(generation.generate(ctx, model, body["model"], call))
    if body["stream"]:
        return stream_response(events, render.chunk, render.failure, SSE)
    found = events.drain()
    response = json_response(render.whole(found))
    response.headers.update(start_headers(*found))
    return response


@blueprint.get("/v1/responses/<id>")
@documented(json_answer(schemas.Response), query={"stream": {"type": "boolean"}}, role="use")
def get_response(id: str) -> Response:
    """A kept response."""
    if request.args.get("stream", "").lower() in ("true", "1"):
        raise InvalidRequestError("only the end of a response is kept: it can't be streamed again", param="stream")
    tell_ignored(sorted(request.args.keys() - {"stream"}))
    return json_response(state.found_response(responses.find_response(app_context(), id)))


@blueprint.get("/v1/responses/<id>/input_items")
@documented(
    json_answer(schemas.InputItems),
    query={
        "limit": {"type": "integer", "minimum": 1, "maximum": state.MAX_LISTED},
        "order": {"enum": ["asc", "desc"]},
        "after": {"type": "string"},
    },
    role="use",
)
def list_input_items(id: str) -> Response:
    """What a kept response was an answer to, from the beginning of its conversation."""
    found = responses.find_response(app_context(), id)
    tell_ignored(sorted(request.args.keys() - {"limit", "order", "after"}))
    return json_response(state.listed(found.input, request.args.to_dict()))


@blueprint.delete("/v1/responses/<id>")
@documented(json_answer(schemas.DeletedResponse), role="use")
def delete_response(id: str) -> Response:
    """Forget a response."""
    responses.delete_response(app_context(), id)
    return json_response({"id": id, "object": "response", "deleted": True})


@blueprint.post("/v1/responses/<id>/cancel")
@documented(role="use")
def cancel_response(id: str) -> Response:
    """Refused: what is kept has ended, and nothing runs in the background."""
    responses.find_response(app_context(), id)
    raise InvalidRequestError(
        "only responses that run in the background can be cancelled; close the connection of a running one"
    )
