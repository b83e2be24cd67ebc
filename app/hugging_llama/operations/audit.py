"""Marks the operations that change which models there are, on disk and in memory: each call is a line of the log, and a
long one is two."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from hugging_llama.neutral.events import EventStream, Loaded
from hugging_llama.neutral.models import LocalModel
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.operations.audit_log import Action
from hugging_llama.operations.context import AppContext
from hugging_llama_config.redaction import redacted

_P = ParamSpec("_P")
_T = TypeVar("_T")
_MAX_TEXT = 300
_DONE, _LEFT, _FAILED = "done", "left", "internal"

Operation = Callable[Concatenate[AppContext, _P], _T]


class AuditedStream:
    """An EventStream whose end is the end of an action."""

    def __init__(self, events: EventStream[Any], action: Action) -> None:
        self._events = events
        self._action = action

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            event = next(self._events)
        except StopIteration:
            self._action.end(_LEFT)  # one that is done has said so
            raise
        except BaseException as error:
            self._action.end(_outcome(error))
            raise
        if isinstance(event, Loaded) or (isinstance(event, TransferProgress) and event.status == "success"):
            self._action.end(_DONE)
        return event

    def close(self) -> None:
        """End the stream; what was not done is left."""
        self._events.close()
        self._action.end(_LEFT)


def audited(action: str, *facts: str, is_long: bool = False) -> Callable[[Operation[_P, _T]], Operation[_P, _T]]:
    """Write down the end of each call of an operation, where the operator asks for it, and the begin of one that
    `is_long`: whoever is killed in the middle tells no end. `facts` name what is told of its first arguments behind the
    context; one that returns a stream ends with that."""

    def decorate(operation: Operation[_P, _T]) -> Operation[_P, _T]:
        @functools.wraps(operation)
        def call(ctx: AppContext, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
            if ctx.audit is None:
                return operation(ctx, *args, **kwargs)
            actor = ctx.audit.actor()
            told = {fact: audit_text(value) for fact, value in zip(facts, args, strict=False) if value is not None}
            begun = Action(ctx.audit, actor, {"action": action, **told})
            if is_long:
                begun.begin()
            # what it sets off later is this actor's, too
            ctx = replace(ctx, audit=ctx.audit.on_behalf_of(actor))
            try:
                found = operation(ctx, *args, **kwargs)
            except BaseException as error:
                begun.end(_outcome(error))
                raise
            if hasattr(found, "__next__"):
                return cast(_T, AuditedStream(cast(EventStream[Any], found), begun))
            begun.end(_DONE)
            return found

        return call

    return decorate


def audit_text(value: object) -> str:
    """What names a model among the arguments: a text, a model on disk, a model to be made. Without secrets."""
    name = value.ref.name if isinstance(value, LocalModel) else getattr(value, "name", value)
    return redacted(str(name))[:_MAX_TEXT]


def _outcome(error: BaseException) -> str:
    """The code of an error of ours, or of one by which a dialect says that the caller left."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) else _FAILED
