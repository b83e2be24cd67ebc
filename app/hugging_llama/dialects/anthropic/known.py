"""What is looked at in the objects of a request."""

from hugging_llama.dialects.known_names import Kinds, Known, Names

SKIPPED = ("redacted_thinking", "server_tool_use", "web_search_tool_result")
"""Blocks of other servers' earlier answers, which no template has a place for."""

_TEXT = Names("type", "text")
_SOURCE = Names("type", "data", "media_type", inner={"content": _TEXT})
_WRITTEN: dict[str | None, Known] = {
    "text": _TEXT,
    "document": Names("type", "title", "context", inner={"source": _SOURCE}),
    "search_result": Names("type", "title", "source", inner={"content": _TEXT}),
}
_RESULT = Names("type", "tool_use_id", "is_error", inner={"content": Kinds("type", _WRITTEN)})
_BLOCKS = _WRITTEN | {
    "thinking": Names("type", "thinking", "signature"),
    "tool_use": Names("type", "id", "name", "input"),
    "tool_result": _RESULT,
}

SYSTEM = _TEXT
MESSAGES = Names("role", inner={"content": Kinds("type", _BLOCKS, left_out=SKIPPED)})
_TOOL = ("type", "name", "description", "input_schema")
_OFF = ("strict", "defer_loading", "eager_input_streaming")
TOOLS = Names(*_TOOL, "strict", off=_OFF)
TOOLS_OF_COUNT = Names(*_TOOL, off=_OFF)
TOOL_CHOICE = Names("type", "name", "disable_parallel_tool_use")
THINKING = Names("type", "budget_tokens", "display")
FORMAT = Names("type", "schema")
OUTPUT = Names("effort", inner={"format": FORMAT})
OUTPUT_OF_COUNT = Names("effort")
"""A format is not part of the prompt."""
