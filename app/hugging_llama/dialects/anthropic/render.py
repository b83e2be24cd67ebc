"""Ids, usage, and the events of a stream."""

import base64
import hashlib
import secrets
from typing import Any

import msgspec

from hugging_llama.errors import EngineShutdownError
from hugging_llama.neutral.events import Finished, FinishReason, Started, Usage
from hugging_llama.neutral.messages import ToolCall

Json = dict[str, Any]
encode = msgspec.json.Encoder().encode

SSE = "text/event-stream"


def event(value: Json) -> bytes:
    """One server-sent event, named by its type."""
    return b"event: " + str(value["type"]).encode() + b"\ndata: " + encode(value) + b"\n\n"


def new_id(prefix: str) -> str:
    """Never the same twice."""
    return f"{prefix}_{secrets.token_hex(12)}"


def signature(thoughts: str) -> str:
    """A checksum of a block of thoughts. Clients keep only signed ones for the next turn; nothing here checks it."""
    return base64.b64encode(hashlib.sha256(thoughts.encode()).digest()).decode()


def usage_json(usage: Usage) -> Json:
    """What was read, what of it lay in the cache, and what was written."""
    return _usage(usage.num_prompt_tokens, usage.num_cached_tokens, usage.num_output_tokens)


def start_usage_json(started: Started | None) -> Json:
    """What was read before a word is written."""
    return _usage(started.num_prompt_tokens, started.num_cached_tokens, 0) if started else _usage(0, 0, 0)


def _usage(num_prompt: int, num_cached: int, num_output: int) -> Json:
    return {
        "input_tokens": num_prompt - num_cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": num_cached,
        "output_tokens": num_output,
    }


def tool_use(call: ToolCall) -> Json:
    """A whole call."""
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}


def stop_reason(finished: Finished, *, has_calls: bool) -> Json:
    """Why the answer ended, and the stop sequence if it was one.

    Raises EngineShutdownError for an answer that was broken off: no word says that.
    """
    if finished.reason not in (FinishReason.STOP, FinishReason.LENGTH):
        raise EngineShutdownError("the server is shutting down")
    if has_calls:
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if finished.reason is FinishReason.LENGTH:
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if finished.stop is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": finished.stop}
    return {"stop_reason": "end_turn", "stop_sequence": None}
