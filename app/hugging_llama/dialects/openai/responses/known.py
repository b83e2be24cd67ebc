"""What is looked at in the objects of a request for a response."""

from hugging_llama.dialects.known_names import AtMost, Kinds, Known, Names

MAX_ITEMS = 10_000
"""As many messages as Ollama's dialect takes: a body may hold a million, and no other request is served meanwhile."""

_TEXT = Names("type", "text")
_PARTS = Kinds(
    "type",
    {"input_text": _TEXT, "output_text": _TEXT, "text": _TEXT, "refusal": Names("type", "refusal")},
)
_HEAD = ("type", "id", "status")
_MESSAGE = Names(*_HEAD, "role", inner={"content": _PARTS})
_OUTPUT = Names(*_HEAD, "call_id", inner={"output": _PARTS})
INPUT = AtMost(
    MAX_ITEMS,
    Kinds(
        "type",
        {
            None: _MESSAGE,
            "message": _MESSAGE,
            "function_call": Names(*_HEAD, "call_id", "name", "namespace", "arguments"),
            "custom_tool_call": Names(*_HEAD, "call_id", "name", "namespace", "input"),
            "function_call_output": _OUTPUT,
            "custom_tool_call_output": _OUTPUT,
            "reasoning": Names(*_HEAD, "encrypted_content", inner={"summary": _TEXT, "content": _TEXT}),
            "item_reference": Names("type", "id"),
        },
    ),
)
_FUNCTION = Names("type", "name", "description", "parameters", "strict")
_CUSTOM = Names("type", "name", "description", inner={"format": Names("type", "syntax", "definition")})
_CALLED: dict[str | None, Known] = {"function": _FUNCTION, "custom": _CUSTOM}
TOOLS = Kinds("type", _CALLED | {"namespace": Names("type", "name", inner={"tools": Kinds("type", _CALLED)})})
TOOL_CHOICE = Names("type", "name", "namespace", "mode", inner={"tools": Names("type", "name", "namespace")})
TEXT = Names(inner={"format": Names("type", "name", "schema", "strict")})
REASONING = Names("effort", "summary", "generate_summary")
STREAM_OPTIONS = Names(off=("include_obfuscation",))
