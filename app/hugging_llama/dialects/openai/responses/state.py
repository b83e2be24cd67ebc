"""Responses as they are kept and as they are found again."""

from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import msgspec

from hugging_llama.dialects.openai.render import Json, encode
from hugging_llama.dialects.openai.responses.ids import is_secret
from hugging_llama.dialects.openai.responses.items import REFERENCE
from hugging_llama.dialects.openai.responses.render import Keep
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.stored import StoredItem, StoredResponse
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.responses import find_items, find_previous, keep_response

MAX_LISTED = 100


def earlier_items(ctx: AppContext, id: str | None) -> list[Json]:
    """All that was said before, the answer of this id included. Raises what `find_previous` raises, and
    InvalidRequestError for more than a body may hold."""
    if id is None:
        return []
    found = find_previous(ctx, id)
    bodies = [item.body for item in (*found.input, *found.output)]
    _check_size(ctx, bodies, "previous_response_id")
    return list(map(msgspec.json.decode, bodies))


def resolve_references(ctx: AppContext, items: Sequence[Json], earlier: Sequence[Json]) -> list[Json]:
    """The items, and those that are named in the place of their names; each once, as a name is short and an item need
    not be. Raises InvalidRequestError, StorageError."""
    named = Counter(item["id"] for item in items if item["type"] == REFERENCE)
    if not named:
        return list(items)
    id, count = named.most_common(1)[0]
    if count > 1:
        raise InvalidRequestError(
            f"Duplicate item found with id '{id[:200]}'. Remove duplicate items from your input and try again.",
            param="input",
        )
    known = {item["id"]: item for item in (*earlier, *items) if item["type"] != REFERENCE}
    kept = find_items(ctx, filter(is_secret, named.keys() - known.keys()))
    _check_size(ctx, kept.values(), "input")
    known |= {id: msgspec.json.decode(body) for id, body in kept.items()}
    return [_named(item, known) if item["type"] == REFERENCE else item for item in items]


def _named(reference: Json, known: dict[str, Json]) -> Json:
    found = known.get(reference["id"])
    if found is None:
        raise InvalidRequestError(
            f"Item with id '{reference['id'][:200]}' not found. Items are kept with the responses that they belong to: "
            "send the item itself where 'store' was false.",
            param=reference["param"],
        )
    return found


def _check_size(ctx: AppContext, bodies: Collection[bytes], param: str) -> None:
    num_bytes, limit = sum(map(len, bodies)), ctx.settings.max_body_bytes
    if num_bytes > limit:
        raise InvalidRequestError(
            f"what was said before are {num_bytes} bytes, and at most {limit} bytes are taken: send what matters of it "
            "in 'input'",
            param=param,
        )


def keeper(ctx: AppContext, items: Sequence[Json]) -> Keep:
    """Keeps a response to these items, for the caller of the request, which a stream outlives."""
    return partial(_keep, ctx, ctx.caller().id, items)


def _keep(ctx: AppContext, owner: str, items: Sequence[Json], response: Json) -> bool:
    stored = StoredResponse(
        id=response["id"],
        previous_id=response["previous_response_id"],
        body=encode({**response, "store": True, "output": []}),
        input=_stored(items),
        output=_stored(response["output"]),
    )
    return keep_response(ctx, stored, owner)


def found_response(stored: StoredResponse) -> Json:
    """The object again."""
    response: Json = msgspec.json.decode(stored.body)
    return {**response, "output": [msgspec.json.decode(item.body) for item in stored.output]}


def listed(items: Sequence[StoredItem], query: dict[str, Any]) -> Json:
    """A page of items. Raises InvalidRequestError."""
    limit = _limit(query.get("limit", "20"))
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequestError("'order' must be 'asc' or 'desc'", param="order")
    ordered = list(items) if order == "asc" else list(reversed(items))
    if (after := query.get("after")) is not None:
        ids = [item.id for item in ordered]
        if after not in ids:
            raise InvalidRequestError(f"there is no item '{after[:200]}' in this list", param="after")
        ordered = ordered[ids.index(after) + 1 :]
    page = ordered[:limit]
    return {
        "object": "list",
        "data": [msgspec.json.decode(item.body) for item in page],
        "first_id": page[0].id if page else "",
        "last_id": page[-1].id if page else "",
        "has_more": len(ordered) > len(page),
    }


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MAX_LISTED):
        raise InvalidRequestError(f"'limit' must be a number from 1 to {MAX_LISTED}", param="limit")
    return int(text)


def _stored(items: Sequence[Json]) -> tuple[StoredItem, ...]:
    return tuple(StoredItem(item["id"], encode(item)) for item in items)
