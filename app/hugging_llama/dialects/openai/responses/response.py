"""The response object: what was asked, and what came of it."""

import time
from collections.abc import Sequence
from typing import Any

from hugging_llama.dialects.openai.render import Json
from hugging_llama.dialects.openai.responses.ids import RESPONSE, new_id
from hugging_llama.dialects.openai.responses.schema import Asked
from hugging_llama.errors import EngineBusyError, HuggingLlamaError, RequestError
from hugging_llama.neutral.events import Usage


def new_response(asked: Asked, *, is_stored: bool) -> Json:
    """The object of a request whose answer begins."""
    body = asked.body
    return {
        "id": new_id(RESPONSE),
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body["instructions"] or None,
        "max_output_tokens": body["max_output_tokens"],
        "max_tool_calls": body["max_tool_calls"],
        "model": body["model"],
        "output": [],
        "parallel_tool_calls": body["parallel_tool_calls"],
        "previous_response_id": body["previous_response_id"],
        "prompt_cache_key": body["prompt_cache_key"],
        # the whole of the reasoning stands where a summary is asked for
        "reasoning": {
            "effort": body["reasoning"].get("effort"),
            "summary": "detailed" if asked.wants_summary else None,
        },
        "safety_identifier": body["safety_identifier"],
        "service_tier": "default",
        "store": is_stored,
        "temperature": body["temperature"],
        "top_p": body["top_p"] or 1.0,
        "presence_penalty": body["presence_penalty"],
        "frequency_penalty": body["frequency_penalty"],
        "text": {"format": _format(body["text"].get("format"))},
        "tool_choice": body["tool_choice"] or "auto",
        "tools": asked.tool_set.shown,
        "top_logprobs": body["top_logprobs"],
        "truncation": body["truncation"],
        "usage": None,
        "user": body["user"],
        "metadata": body["metadata"],
    }


def finished(response: Json, output: Sequence[Json], usage: Usage, *, is_whole: bool) -> Json:
    """The object at its end; an answer that is not whole has reached a limit."""
    return {
        **response,
        "completed_at": int(time.time()) if is_whole else None,
        "status": "completed" if is_whole else "incomplete",
        "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
        "output": list(output),
        "usage": usage_json(usage),
    }


def failed(response: Json, output: Sequence[Json], error: HuggingLlamaError, message: str) -> Json:
    """The object of an answer that broke off; it is not kept."""
    code = "server_error"
    if isinstance(error, RequestError):
        code = "invalid_prompt"
    elif isinstance(error, EngineBusyError):
        code = "rate_limit_exceeded"
    return {
        **response,
        "status": "failed",
        "store": False,
        "error": {"code": code, "message": message},
        "output": list(output),
    }


def usage_json(usage: Usage) -> Json:
    """`cache_write_tokens` are those that a client pays for to have them kept: here none."""
    return {
        "input_tokens": usage.num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.num_cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.num_output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.num_thinking_tokens},
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
    }


def _format(value: Any) -> Json:
    return value if value and value.get("type") else {"type": "text"}
