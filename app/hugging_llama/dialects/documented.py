"""What a view takes and gives, said beside it, for the OpenAPI document."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from flask import Response
from marshmallow import RAISE, Schema

ViewT = TypeVar("ViewT", bound=Callable[..., Response])

Role = Literal["use", "manage", "metrics", "admin"] | None
_KEY = "hugging_llama_operation"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
OF_A_MODEL = ("X-Truncated-Tokens", "X-Queue-Position", "X-Queue-Expected-Wait", "X-Queue-Wait")
"""Headers that an answer of a model may have."""


class AnswerSchema(Schema):
    """The whole of an object in an answer: nothing that is not named comes."""

    class Meta:
        unknown = RAISE


@dataclass(frozen=True, slots=True)
class Answer:
    """One kind of answer. Its body is JSON by one of `schemas`; without them it is of the content type alone, and
    empty if that is "". Of a stream (NDJSON, SSE) each line or event is by one of them; `end` stands in the last event
    where that is no JSON."""

    schemas: tuple[type[Schema], ...] = ()
    content_type: str = "application/json"
    status: int = 200
    about: str = "The answer."
    end: str = ""


def json_answer(schema: type[Schema], status: int = 200, about: str = "The answer.") -> Answer:
    """One JSON object."""
    return Answer((schema,), status=status, about=about)


def empty_answer(status: int = 200, about: str = "Done; the body is empty.") -> Answer:
    """A status alone."""
    return Answer((), "", status, about)


def lines_of(*schemas: type[Schema]) -> Answer:
    """A stream of JSON objects, one a line."""
    return Answer(schemas, NDJSON)


def events_of(*schemas: type[Schema], end: str = "") -> Answer:
    """A stream of server-sent events, whose data are JSON objects."""
    return Answer(schemas, SSE, end=end)


@dataclass(frozen=True, slots=True)
class Operation:
    """`role` is what a key must have for it, None for nothing. `request` reads the JSON body; `body_type` is that of a
    body which is no JSON; `query` holds JSON Schemas of the parameters behind the path; `headers` are those
    that an answer may have beside those of all. `audited` is what the audit log calls it."""

    answers: tuple[Answer, ...]
    role: Role
    request: Schema | None = None
    body_type: str = ""
    query: Mapping[str, Mapping[str, Any]] | None = None
    headers: tuple[str, ...] = ()
    audited: str = ""


def documented(
    *answers: Answer,
    role: Role,
    request: Schema | None = None,
    body_type: str = "",
    query: Mapping[str, Mapping[str, Any]] | None = None,
    headers: tuple[str, ...] = (),
    audited: str = "",
) -> Callable[[ViewT], ViewT]:
    """Say of a view what it takes and gives; its docstring says what it does."""

    def mark(view: ViewT) -> ViewT:
        setattr(view, _KEY, Operation(answers, role, request, body_type, query, headers, audited))
        return view

    return mark


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """What was said of a view."""
    found = getattr(view, _KEY, None)
    return found if isinstance(found, Operation) else None
