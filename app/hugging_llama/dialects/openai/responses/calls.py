"""A call of a tool, whole as the engine tells it, to its item and the events that tell of it."""

from collections.abc import Mapping
from typing import Any

from hugging_llama.dialects.openai.render import Json, encode
from hugging_llama.dialects.openai.responses.ids import new_item_id
from hugging_llama.dialects.openai.responses.tools import CUSTOM_INPUT, CallName
from hugging_llama.neutral.messages import ToolCall


def call_events(call: ToolCall, name: CallName, output_index: int) -> tuple[Json, list[Json]]:
    """The item, and its events without their numbers."""
    id = new_item_id(name.kind)
    namespace = {"namespace": name.namespace} if name.namespace else {}
    head = {"id": id, "type": name.kind, "call_id": call.id, "name": name.name, **namespace}
    key, event, text = "arguments", "function_call_arguments", encode(call.arguments).decode()
    if name.kind == "custom_tool_call":
        key, event, text = CUSTOM_INPUT, "custom_tool_call_input", _custom_input(call.arguments, text)
    item = {**head, "status": "completed", key: text}
    at = {"item_id": id, "output_index": output_index}
    added = {**head, "status": "in_progress", key: ""}
    return item, [
        {"type": "response.output_item.added", "output_index": output_index, "item": added},
        {"type": f"response.{event}.delta", **at, "delta": text},
        {"type": f"response.{event}.done", **at, key: text},
        {"type": "response.output_item.done", "output_index": output_index, "item": item},
    ]


def _custom_input(arguments: Mapping[str, Any], text: str) -> str:
    """The text that was asked for; all that the model wrote where that is something else."""
    value = arguments.get(CUSTOM_INPUT)
    return value if isinstance(value, str) and len(arguments) == 1 else text
