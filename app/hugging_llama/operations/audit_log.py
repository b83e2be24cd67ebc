"""What is done to the models, by whom: lines of JSON, where the operator asks for it.

Never what is said to a model: an action is known by its name, the model's, and how it ended.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from hugging_llama.store.audit_file import append
from hugging_llama.store.blocking import run_blocking

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: the id of a key, `anonymous` or `server`; the client's address; the request."""

    who: str
    address: str
    request_id: str


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The file at `path`; `actor` tells who acts now."""

    path: str
    actor: Callable[[], Actor]

    def check(self) -> None:
        """Raises OSError if lines can't be written."""
        append(self.path, b"")

    def on_behalf_of(self, actor: Actor) -> "AuditLog":
        """The same for what one actor does, whenever that is."""
        return replace(self, actor=lambda: actor)

    def write(self, line: dict[str, Any]) -> None:
        """Nothing can be undone when this fails, so that is told in the server's log, with the line."""
        text = json.dumps(line)  # ASCII: no name can end the line or hide in it
        try:
            run_blocking(append, self.path, text.encode() + b"\n")
        except OSError as error:
            logger.error("the audit log can't be written (%s): %s", error.strerror, text)


class Action:
    """One action of `actor`, from its begin; its first end is written, and its begin where that is asked for."""

    def __init__(self, log: AuditLog, actor: Actor, facts: dict[str, str]) -> None:
        self._log = log
        self._actor = actor
        self._facts = facts
        self._started = time.monotonic()
        self._ended = threading.Lock()

    def begin(self) -> None:
        """Say that it begins: where no end follows, its process was killed."""
        self._log.write(self._line("begun"))

    def end(self, outcome: str) -> None:
        """`done`, `left` by the caller before it was, or the code of an error."""
        if self._ended.acquire(blocking=False):
            self._log.write({**self._line(outcome), "duration_s": round(time.monotonic() - self._started, 3)})

    def _line(self, outcome: str) -> dict[str, Any]:
        return {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "who": self._actor.who,
            "address": self._actor.address,
            **self._facts,
            "outcome": outcome,
            "request_id": self._actor.request_id,
        }
