"""The least reader of Modelfiles, after Ollama's parser: commands, values bare or in one or three double quotes."""

from collections.abc import Iterator
from typing import Any

from hugging_llama_cli.conversation import parse_parameter


def read_modelfile(text: str) -> dict[str, Any]:
    """The body of /api/create that the Modelfile stands for; `adapters` as a name of the Hub."""
    body: dict[str, Any] = {"parameters": {}, "license": [], "messages": []}
    values: dict[str, list[str]] = {}
    for command, value in _commands(text):
        if command == "from":
            body["from"] = value
        elif command == "adapter":
            body["adapters"] = value
        elif command in ("template", "system"):
            body[command] = value
        elif command == "license":
            body["license"].append(value)
        elif command == "message":
            role, _, content = value.partition(" ")
            body["messages"].append({"role": role, "content": _unquoted(content)})
        elif command == "parameter":
            name, _, content = value.partition(" ")
            values.setdefault(name, []).append(str(_unquoted(content)))
        else:
            raise ValueError(f"unknown command {command}")
    for name, found in values.items():
        several = name == "stop" or len(found) > 1
        parsed = [
            parse_parameter(name, [value])[0] if name == "stop" else parse_parameter(name, [value]) for value in found
        ]
        body["parameters"][name] = parsed if several else parsed[0]
    return {key: value for key, value in body.items() if value}


def _commands(text: str) -> Iterator[tuple[str, str]]:
    lines = iter(text.split("\n"))
    for line in lines:
        if not line or line.startswith("#"):
            continue
        command, _, value = line.partition(" ")
        head = ""
        if command.lower() in ("message", "parameter"):
            head, _, value = value.partition(" ")
            head += " "
        while _unquoted(value) is None:
            value += "\n" + next(lines)
        yield command.lower(), head + (value if head else str(_unquoted(value)))


def _unquoted(text: str) -> str | None:
    """None while the closing quotes are still to come."""
    for mark in ('"""', '"'):
        if text.startswith(mark):
            is_closed = len(text) >= 2 * len(mark) and text.endswith(mark)
            return text[len(mark) : -len(mark)] if is_closed else None
    return text
