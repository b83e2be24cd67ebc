"""Items of a request, checked and brought into the one shape in which they are kept and listed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hugging_llama.dialects.openai.render import Json
from hugging_llama.dialects.openai.responses.ids import new_item_id
from hugging_llama.dialects.openai.responses.known import MAX_ITEMS
from hugging_llama.dialects.openai.responses.sealed import unseal
from hugging_llama.errors import InvalidRequestError, UnsupportedCapabilityError

REFERENCE = "item_reference"
_ROLES = ("user", "assistant", "system", "developer")
_TEXT_PARTS = ("input_text", "output_text", "text")
_MEDIA: Mapping[str, str] = {"input_image": "vision", "input_file": "file", "input_audio": "audio"}
_NO_TEXT = frozenset({"web_search_call", "image_generation_call"})
"""Traces of what another server did. What they found stands in the messages; there is nothing in them to go on with."""
_MAX_ID = 200


@dataclass(slots=True)
class ItemReader:
    """Reads the items of one request. `model` is its name as the caller sent it.

    `ignored` collects what was given and left out. Raises InvalidRequestError; UnsupportedCapabilityError for pictures
    and files.
    """

    model: str
    ignored: set[str] = field(default_factory=set)

    def read(self, value: Any) -> list[Json]:
        """A text, which is a message of the user, or a list of items; references stay what they are."""
        if isinstance(value, str):
            value = [{"role": "user", "content": value}]
        if not isinstance(value, list):
            raise InvalidRequestError("'input' must be a string or a list of items", param="input")
        if len(value) > MAX_ITEMS:
            raise InvalidRequestError(
                f"'input' has {len(value)} items, and at most {MAX_ITEMS} are taken: go on from a kept response with "
                "'previous_response_id'",
                param="input",
            )
        return [item for number, given in enumerate(value) if (item := self._item(given, f"input[{number}]"))]

    def _item(self, given: Any, param: str) -> Json | None:
        if not isinstance(given, dict):
            raise InvalidRequestError("an item must be an object", param=param)
        kind = given.get("type") or ("message" if "role" in given else REFERENCE if "id" in given else None)
        if isinstance(kind, str) and kind in _NO_TEXT:
            self.ignored.add(f"input.{kind}")
            return None
        read = _READERS.get(kind) if isinstance(kind, str) else None
        if read is None:
            raise InvalidRequestError(_no_kind(kind, param), param=param)
        return read(self, given, param)

    def _message(self, given: Json, param: str) -> Json:
        role = given.get("role")
        if role not in _ROLES:
            raise InvalidRequestError(f"a message's role must be one of {', '.join(_ROLES)}", param=f"{param}.role")
        content = given.get("content")
        if content is None and role == "assistant":
            content = ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list):
            raise InvalidRequestError("a message's content must be a string or a list", param=f"{param}.content")
        read = [self._part(part, role, f"{param}.content[{number}]") for number, part in enumerate(parts)]
        return _head("message", given) | {"role": role, "content": read}

    def _part(self, part: Any, role: str, param: str) -> Json:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "refusal" and isinstance(part.get("refusal"), str):
            return {"type": "refusal", "refusal": part["refusal"]}
        text = self._text(part, param)
        if role == "assistant":
            return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {"type": "input_text", "text": text}

    def _text(self, part: Any, param: str) -> str:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind in _MEDIA:
            raise UnsupportedCapabilityError(self.model, [_MEDIA[kind]])
        if isinstance(kind, str) and kind not in _TEXT_PARTS:
            raise InvalidRequestError(f"unknown content type: {kind[:60]}", param=param)
        if not isinstance(kind, str) or not isinstance(part.get("text"), str):
            raise InvalidRequestError("a part must be {'type': 'input_text', 'text': …}", param=param)
        return str(part["text"])

    def _call(self, given: Json, param: str) -> Json:
        kind = given["type"]
        text = "input" if kind == "custom_tool_call" else "arguments"
        call = _head(kind, given) | {key: _string(given, key, param) for key in ("call_id", "name", text)}
        namespace = given.get("namespace")
        return call | ({"namespace": namespace} if isinstance(namespace, str) and namespace else {})

    def _output(self, given: Json, param: str) -> Json:
        output = given.get("output")
        if isinstance(output, list):
            texts = [self._text(part, f"{param}.output[{number}]") for number, part in enumerate(output)]
            output = [{"type": "input_text", "text": text} for text in texts]
        elif not isinstance(output, str):
            raise InvalidRequestError("the output must be a string or a list of texts", param=f"{param}.output")
        return _head(given["type"], given) | {"call_id": _string(given, "call_id", param), "output": output}

    def _reasoning(self, given: Json, param: str) -> Json:
        item = _head("reasoning", given)
        for key, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
            item[key] = [
                {"type": kind, "text": self._thought(part, f"{param}.{key}[{number}]")}
                for number, part in enumerate(_parts(given, key, param))
            ]
        sealed = given.get("encrypted_content")
        if isinstance(sealed, str) and not item["content"]:
            if (text := unseal(sealed)) is not None:
                item["content"] = [{"type": "reasoning_text", "text": text}]
            else:
                self.ignored.add("input.encrypted_content")
        return item

    def _thought(self, part: Any, param: str) -> str:
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            raise InvalidRequestError("a part of reasoning must have a text", param=param)
        return text

    def _reference(self, given: Json, param: str) -> Json:
        return {"type": REFERENCE, "id": _string(given, "id", param), "param": param}


_Read = Callable[[ItemReader, Json, str], Json]
_READERS: Mapping[str, _Read] = {
    "message": ItemReader._message,
    "function_call": ItemReader._call,
    "function_call_output": ItemReader._output,
    "custom_tool_call": ItemReader._call,
    "custom_tool_call_output": ItemReader._output,
    "reasoning": ItemReader._reasoning,
    REFERENCE: ItemReader._reference,
}


def _no_kind(kind: Any, param: str) -> str:
    if kind is None:
        return f"{param}: input item missing required 'type' field"
    return f'{param}: unknown input item type: "{str(kind)[:60]}" (must be one of {", ".join(_READERS)})'


def _head(kind: str, given: Json) -> Json:
    """A client's own id stays, and names the item within its conversation."""
    id = given.get("id")
    is_fine = isinstance(id, str) and 0 < len(id) <= _MAX_ID
    return {"id": id if is_fine else new_item_id(kind), "type": kind, "status": "completed"}


def _parts(given: Json, key: str, param: str) -> list[Any]:
    value = given.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequestError(f"'{key}' must be a list", param=f"{param}.{key}")
    return value


def _string(given: Json, key: str, param: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise InvalidRequestError(f"'{key}' must be a string", param=f"{param}.{key}")
    return value
