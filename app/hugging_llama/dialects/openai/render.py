"""What several endpoints write: ids, usage, log-probabilities, events of a stream."""

import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from hugging_llama.dialects.packed_numbers import plain
from hugging_llama.dialects.progress import progress_json
from hugging_llama.errors import EngineShutdownError
from hugging_llama.neutral.events import Finished, FinishReason, Progress, TokenLogprob, Usage
from hugging_llama.neutral.messages import ToolCall

Json = dict[str, Any]
encode = msgspec.json.Encoder(enc_hook=plain).encode

DONE = b"data: [DONE]\n\n"
SSE = "text/event-stream"
FINGERPRINT = "fp_hugging_llama"


def event(value: Json) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(value) + b"\n\n"


def progress_event(head: Json, found: Progress) -> bytes:
    """A chunk without choices, which clients pass over."""
    return event({**head, "choices": [], "progress": progress_json(found)})


def new_id(prefix: str) -> str:
    """Never the same twice."""
    return f"{prefix}-{secrets.token_hex(12)}"


def head(object: str, prefix: str, model: str) -> Json:
    """What all chunks of an answer have in common."""
    return {
        "id": new_id(prefix),
        "object": object,
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": FINGERPRINT,
    }


def usage_json(usages: Sequence[Usage], num_prompts: int = 1) -> Json:
    """The sum over an answer's choices, as many of each prompt, one prompt's after the other's."""
    size = max(1, len(usages) // num_prompts)
    prompts = [usages[start : start + size] for start in range(0, len(usages), size)]
    num_prompt = sum(max(usage.num_prompt_tokens for usage in choices) for choices in prompts)
    num_cached = sum(min(usage.num_cached_tokens for usage in choices) for choices in prompts)
    num_output = sum(usage.num_output_tokens for usage in usages)
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_output,
        "total_tokens": num_prompt + num_output,
        "prompt_tokens_details": {"cached_tokens": num_cached},
        "completion_tokens_details": {"reasoning_tokens": sum(usage.num_thinking_tokens for usage in usages)},
    }


def finish_reason(finished: Finished, *, has_calls: bool = False) -> str:
    """OpenAI's word. Raises EngineShutdownError for an answer that was broken off: no word says that."""
    if finished.reason is FinishReason.LENGTH:
        return "length"
    if finished.reason is FinishReason.STOP:
        return "tool_calls" if has_calls else "stop"
    raise EngineShutdownError("the server is shutting down")


def tool_call_json(call: ToolCall) -> Json:
    """A whole call; the arguments are JSON text."""
    arguments = encode(call.arguments).decode()
    return {
        "index": call.index,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def logprobs_json(entries: Sequence[TokenLogprob]) -> Json:
    """`logprobs` of a chat's choice."""
    return {"content": [_logprob(entry) | {"top_logprobs": list(map(_logprob, entry.top))} for entry in entries]}


def _logprob(entry: TokenLogprob) -> Json:
    text = entry.token.decode("utf-8", "replace")
    return {"token": text, "logprob": entry.logprob, "bytes": list(entry.token)}
