"""Responses as they are kept and as they are found again."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from hugging_llama.dialects.openai.render import Json, encode
from hugging_llama.dialects.openai.responses.items import REFERENCE
from hugging_llama.dialects.openai.responses.render import Keep
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.stored import StoredItem, StoredResponse
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.responses import find_items, find_previous, keep_response

MAX_LISTED = 100


def earlier_items(ctx: AppContext, id: str | None) -> list[Json]:
    """All that was said before, the answer of this id included. Raises what `find_previous` raises."""
    if id is None:
        return []
    found = find_previous(ctx, id)
    return [msgspec.json.decode(item.body) for item in (*found.input, *found.output)]


def resolve_references(ctx: AppContext, items: Sequence[Json], earlier: Sequence[Json]) -> list[Json]:
    """The items with those that are named in their place. Raises InvalidRequestError, StorageError."""
    known = {item["id"]: item for item in (*earlier, *items) if item["type"] != REFERENCE}
    wanted = {item["id"] for item in items if item["type"] == REFERENCE} - known.keys()
    if wanted:
        known |= {id: msgspec.json.decode(body) for id, body in find_items(ctx, wanted).items()}
    resolved = []
    for item in items:
        found = known.get(item["id"])
        if found is None:
            raise InvalidRequestError(
                f"Item with id '{item['id'][:200]}' not found. Items are kept with the responses that they belong to: "
                "send the item itself where 'store' was false.",
                param=item["param"],
            )
        resolved.append(found)
    return resolved


def keeper(ctx: AppContext, items: Sequence[Json]) -> Keep:
    """Keeps a response to these items."""
    return partial(_keep, ctx, items)


def _keep(ctx: AppContext, items: Sequence[Json], response: Json) -> bool:
    stored = StoredResponse(
        id=response["id"],
        previous_id=response["previous_response_id"],
        body=encode({**response, "store": True, "output": []}),
        input=_stored(items),
        output=_stored(response["output"]),
    )
    return keep_response(ctx, stored)


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
