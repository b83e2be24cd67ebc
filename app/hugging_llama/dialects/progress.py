"""What a stream that asks for `progress` is told before its first token; each dialect has its own place for it."""

from collections.abc import Mapping
from typing import Any

from marshmallow import fields

from hugging_llama.dialects.base import tell_ignored
from hugging_llama.dialects.documented import AnswerSchema
from hugging_llama.neutral.events import Progress

ABOUT_PROGRESS = "Ours: a stream tells how far it is before the first token, while the request waits or is computed."


class Beginning(AnswerSchema):
    """How far a request is before its first token: `load`, `queue` with its place, or `prompt` with its tokens."""

    phase = fields.String(required=True, metadata={"enum": ["load", "queue", "prompt"]})
    position = fields.Integer(metadata={"description": "1 is the next one."})
    expected_wait = fields.Float(metadata={"description": "Seconds, if anybody knows."})
    completed = fields.Integer()
    total = fields.Integer()


def parse_progress(body: Mapping[str, Any]) -> bool:
    """Whether the checked body of a request asks for it; where nothing is streamed there is no place for it, which the
    answer's header tells."""
    if body["progress"] and not body["stream"]:
        tell_ignored(["progress"])
    return bool(body["progress"] and body["stream"])


def progress_json(found: Progress) -> dict[str, Any]:
    """A Beginning."""
    match found.phase:
        case "queue":
            wait = {"expected_wait": found.expected_s} if found.expected_s else {}
            return {"phase": "queue", "position": found.position} | wait
        case "prompt":
            return {"phase": "prompt", "completed": found.completed, "total": found.total}
        case "load":
            return {"phase": "load"}
