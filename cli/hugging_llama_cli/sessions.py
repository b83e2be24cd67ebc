"""Chats that are kept: one file each in the home, which nobody else may read."""

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hugging_llama_cli.api import Json
from hugging_llama_cli.errors import CliError, UsageError
from hugging_llama_config.private_file import replace_private_file

_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUFFIX = ".json"


@dataclass(slots=True, kw_only=True)
class Session:
    """What is kept of a chat; times are RFC 3339."""

    name: str
    model: str
    messages: list[Json] = field(default_factory=list)
    options: Json = field(default_factory=dict)
    system: str = ""
    created_at: str = ""
    updated_at: str = ""


class SessionStore:
    """The sessions of one home."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "sessions"

    def names(self) -> list[str]:
        """In the order of the alphabet."""
        try:
            found = [path.name.removesuffix(_SUFFIX) for path in self._folder.iterdir() if path.suffix == _SUFFIX]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CliError(f"'{self._folder}' can't be read: {error.strerror}") from None
        return sorted(name for name in found if _NAME.fullmatch(name))

    def read(self, name: str) -> Session | None:
        """None if there is none. Raises CliError for a file that can't be read or is damaged."""
        path = self._path(name)
        try:
            return _session(name, json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CliError(f"'{path}' can't be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise CliError(f"'{path}' is no session of this version; move it away to begin anew") from None

    def write(self, session: Session) -> None:
        """All or nothing, and readable by this user alone. Raises CliError."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        session.created_at, session.updated_at = session.created_at or now, now
        path = self._path(session.name)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = json.dumps({"format": _FORMAT} | to_json(session), ensure_ascii=False, indent=1)
            replace_private_file(path, text.encode())
        except OSError as error:
            raise CliError(f"the session can't be kept in '{path}': {error.strerror}") from None

    def delete(self, name: str) -> None:
        """Raises CliError if there is none, or if a chat has it open."""
        with self.opened(name):
            try:
                self._path(name).unlink()
            except FileNotFoundError:
                raise missing(name) from None
            except OSError as error:
                raise CliError(f"'{self._path(name)}' can't be deleted: {error.strerror}") from None
            finally:
                self._lock_path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[None]:
        """Only one at a time: another would lose what this one says. Raises CliError."""
        path = self._lock_path(name)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise CliError(f"'{path}' can't be made: {error.strerror}") from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CliError(f"the session '{name}' is open in another chat") from None
            yield
        finally:
            os.close(lock)

    def _lock_path(self, name: str) -> Path:
        return self._path(name).with_name(f".{name}.lock")

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UsageError("a session's name is made of letters, digits and . _ - (64 at most)")
        return self._folder / f"{name}{_SUFFIX}"


def missing(name: str) -> CliError:
    """There is no session of that name."""
    return CliError(f"there is no session '{name}' (see 'hugging-llama sessions list')")


def to_json(session: Session) -> Json:
    """All that is kept."""
    names = ("name", "model", "created_at", "updated_at", "system", "options", "messages")
    return {name: getattr(session, name) for name in names}


def as_markdown(session: Session) -> str:
    """The chat to read."""
    parts = [f"# {session.name}", f"Model: `{session.model}`, {session.updated_at}"]
    if session.system:
        parts += ["## System", session.system]
    for message in session.messages:
        parts.append("## You" if message.get("role") == "user" else f"## {message.get('role', '').capitalize()}")
        if thinking := str(message.get("thinking") or "").strip():
            parts.append(f"<details><summary>Thinking</summary>\n\n{thinking}\n\n</details>")
        if content := str(message.get("content") or "").strip():
            parts.append(content)
        for call in message.get("tool_calls") or []:
            parts.append(f"```json\n{json.dumps(call, ensure_ascii=False, indent=2)}\n```")
    return "\n\n".join(parts) + "\n"


def _session(name: str, value: Mapping[str, Any]) -> Session:
    if value["format"] != _FORMAT:
        raise ValueError
    messages, options = value["messages"], value["options"]
    if not isinstance(options, dict) or not all(isinstance(message, dict) for message in messages):
        raise TypeError
    texts = {key: str(value[key]) for key in ("model", "system", "created_at", "updated_at")}
    return Session(name=name, messages=list(messages), options=dict(options), **texts)
