"""A line for each request that has ended: who asked for what, how it went, and where the time was spent.

Never what was said. Requests of probes and scrapes are logged at the level debug.
"""

import logging
import urllib.parse
from typing import Any

from hugging_llama.dialects.request_facts import RequestFacts
from hugging_llama_config.logging import FIELDS
from hugging_llama_config.redaction import redacted

logger = logging.getLogger("hugging_llama.access")

_MAX_PATH = 200


def log_request(facts: RequestFacts) -> None:
    """One line, in the format of the settings."""
    level = logging.DEBUG if facts.is_probe else logging.INFO
    if not logger.isEnabledFor(level):
        return
    fields = request_fields(facts)
    told = " ".join(f"{name}={value}" for name, value in fields.items() if name not in _IN_FRONT)
    message = f"{fields['method']} {fields['path']} {facts.status} {told}"
    logger.log(level, "%s", message, extra={FIELDS: fields})


_IN_FRONT = ("method", "path", "status")


def request_fields(facts: RequestFacts) -> dict[str, Any]:
    """What is known, without what is not: numbers as they are, of times seconds."""
    usages = [answer.usage for answer in facts.answers if answer.usage is not None]
    times = {
        "load_s": max((usage.load_ns for usage in usages), default=0),
        "queue_s": max((usage.queue_ns for usage in usages), default=0),
        "prompt_s": max((usage.prompt_ns for usage in usages), default=0),
        "decode_s": max((usage.decode_ns for usage in usages), default=0),
    }
    found: dict[str, Any] = {
        "method": _plain(facts.method),
        "path": _plain(facts.path),
        "status": facts.status,
        "duration_s": round(facts.duration_s, 4),
        "request_id": redacted(facts.request_id),
        "key_id": _plain(facts.key_id),
        "model": _plain(facts.model),
        "error": facts.error,
        "outcome": "left" if facts.has_left else "",
        "prompt_tokens": facts.prompt_tokens,
        "cached_tokens": facts.cached_tokens,
        "output_tokens": facts.output_tokens,
        "first_token_s": facts.first_token_s and round(facts.first_token_s, 4),
        **{name: round(took_ns / 1e9, 4) for name, took_ns in times.items()},
        "trace_id": facts.trace_id,
    }
    return {name: value for name, value in found.items() if value or name in ("status", "duration_s")}


def _plain(text: str) -> str:
    """Without secrets, and what could end the line or hide in it."""
    return urllib.parse.quote(redacted(text)[:_MAX_PATH], safe="/:@!$&'()*+,;=-._~", errors="replace")
