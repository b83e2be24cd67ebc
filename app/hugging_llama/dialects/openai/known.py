"""What is looked at in the objects of a chat request."""

from hugging_llama.dialects.known_names import Kinds, Known, Names

_CALLED = Names("name", "arguments")
_CONTENT = Kinds("type", {"text": Names("type", "text"), "refusal": Names("type", "refusal")})
_SAID = ("role", "refusal", "reasoning", "reasoning_content", "tool_call_id")
_IN_ALL: dict[str, Known] = {
    "content": _CONTENT,
    "tool_calls": Names("id", "type", "index", inner={"function": _CALLED}),
    "function_call": _CALLED,
}
_RESULT = Names(*_SAID, "name", inner=_IN_ALL)

MESSAGES = Kinds("role", {"tool": _RESULT, "function": _RESULT}, otherwise=Names(*_SAID, inner=_IN_ALL))
TOOLS = Names("type", inner={"function": Names("name", "description", "parameters", "strict")})
_ALLOWED = Names("mode", inner={"tools": TOOLS})
TOOL_CHOICE = Names("type", "mode", inner={"function": Names("name"), "allowed_tools": _ALLOWED, "tools": TOOLS})
RESPONSE_FORMAT = Names("type", inner={"json_schema": Names("name", "schema", "strict")})
"""Its name is for the caller's own use, and it is enforced whether it is strict or not."""
REASONING = Names("effort")
STREAM_OPTIONS = Names("include_usage", off=("include_obfuscation",))
